"""List of the packages in the environment that runs it: ``NAME==VERSION`` per line, without bringup itself."""

import importlib.metadata
import sysconfig

for found in sorted(
    f"{each.name}=={each.version}" for each in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
):
    if not found.startswith("bringup=="):
        print(found)
