"""Traits of a host as names of os-traits, from libvirt's capabilities as Nova reads them.

There is no trait of KVM: that ``/dev/kvm`` opens is no proof that a guest runs on it.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from bringup.drivers.libvirt import definitions
from bringup.drivers.libvirt.binding import Connection

_PREFIX: Final = "HW_CPU_X86_"
# Names of libvirt that, in capitals and without dots, are those of os-traits.
_SAME: Final = frozenset(
    """3dnow abm avx avx2 avx512f avx512cd avx512pf avx512er avx512vl avx512bw avx512dq avx512vbmi avx512ifma bmi2 f16c
    fma4 mmx mpx pdpe1gb sse sse2 sse3 ssse3 sse4.1 sse4.2 sse4a stibp tbm xop""".split()  # noqa: SIM905 - read as prose
)
# The others of Nova's CPU_TRAITS_MAPPING.
_OTHERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "aes": ("AESNI",),
        "amd-ssbd": ("AMD_SSBD",),
        "amd-no-ssb": ("AMD_NO_SSB",),
        "avx512vnni": ("AVX512VNNI",),
        "avx512vbmi2": ("AVX512VBMI2",),
        "avx512bitalg": ("AVX512BITALG",),
        "avx512-vpopcntdq": ("AVX512VPOPCNTDQ",),
        "bmi1": ("BMI",),
        "fma": ("FMA3",),
        "gfni": ("AVX512GFNI",),
        "ibpb": ("AMD_IBPB",),
        "md-clear": ("INTEL_MD_CLEAR",),
        "pcid": ("INTEL_PCID",),
        "pclmuldq": ("CLMUL",),
        "pclmulqdq": ("CLMUL",),
        "pni": ("SSE3",),
        "sha-ni": ("SHA",),
        "spec-ctrl": ("INTEL_SPEC_CTRL",),
        "ssbd": ("INTEL_SSBD",),
        "svm": ("SVM", "AMD_SVM"),
        "vaes": ("AVX512VAES",),
        "virt-ssbd": ("AMD_VIRT_SSBD",),
        "vmx": ("VMX", "INTEL_VMX"),
        "vpclmulqdq": ("AVX512VPCLMULQDQ",),
    }
)
_BUSES: Final = frozenset({"FDC", "IDE", "LXC", "SATA", "SCSI", "UML", "USB", "VIRTIO", "XEN"})
_VIDEOS: Final = frozenset({"BOCHS", "CIRRUS", "GOP", "NONE", "QXL", "VGA", "VIRTIO", "VMVGA", "XEN"})
_ARCHITECTURES: Final = frozenset({"AARCH64", "I686", "PPC64", "PPC64LE", "S390X", "X86_64"})


def cpu_traits(features: Iterable[str]) -> frozenset[str]:
    """Return the traits of CPU features in libvirt's names; those that os-traits does not know are ignored."""
    names: set[str] = set()
    for feature in features:
        if feature in _SAME:
            names.add(feature.replace(".", "").upper())
        names.update(_OTHERS.get(feature, ()))
    return frozenset(f"{_PREFIX}{name}" for name in names)


def traits_of(connection: Connection, libvirt: Any) -> frozenset[str]:
    """Return all traits; those that the hypervisor does not report are missing."""
    arch, cpu = definitions.host_cpu(connection.getCapabilities())
    traits = _known(_ARCHITECTURES, "HW_ARCH_", (arch,))
    with suppress(libvirt.libvirtError):
        expanded = connection.baselineCPU([cpu], libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)
        traits |= cpu_traits(definitions.features_of(expanded))
    with suppress(libvirt.libvirtError):
        devices = connection.getDomainCapabilities()
        traits |= _known(_BUSES, "COMPUTE_STORAGE_BUS_", definitions.values_of(devices, "disk", "bus"))
        traits |= _known(_VIDEOS, "COMPUTE_GRAPHICS_MODEL_", definitions.values_of(devices, "video", "modelType"))
    return traits


def _known(known: frozenset[str], prefix: str, values: Iterable[str]) -> frozenset[str]:
    return frozenset(f"{prefix}{value.upper()}" for value in values if value.upper() in known)
