"""What an error of PostgreSQL means for whoever opens the store."""

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError

from bringup.daemon.storage.store.postgresql_transactions import names_a_setting


def wrapped(cause: psycopg.Error) -> DBAPIError:
    made = DBAPIError.instance("SELECT 1", None, cause, psycopg.Error)
    assert isinstance(made, DBAPIError)
    return made


WITHIN_ITSELF = [
    errors.InternalError_("server closed the connection; tuple concurrently updated"),
    errors.IndexCorrupted("index is corrupted"),
    errors.DataCorrupted("invalid page in block 0"),
    errors.InFailedSqlTransaction("current transaction is aborted"),
    errors.UniqueViolation("duplicate key value violates unique constraint pg_type_typname_nsp_index"),
    errors.DuplicateTable('relation "instances" already exists'),
    errors.DuplicateObject('type "instances" already exists'),
    errors.TooManyConnections("sorry, too many clients already"),
    errors.DiskFull("could not extend file"),
    errors.AdminShutdown("terminating connection due to administrator command"),
    psycopg.OperationalError("connection refused"),
]
SETTINGS = [
    errors.InvalidPassword("password authentication failed"),
    errors.InvalidAuthorizationSpecification("role may not log in"),
    errors.InvalidCatalogName('database "x" does not exist'),
    errors.InsufficientPrivilege("permission denied for schema public"),
    errors.InvalidSchemaName("no schema has been selected to create in"),
    errors.FeatureNotSupported("not here"),
    psycopg.OperationalError('FATAL: password authentication failed for user "bringup"'),
    psycopg.ProgrammingError('invalid connection option "hosts"'),
]


@pytest.mark.parametrize("cause", WITHIN_ITSELF, ids=lambda cause: type(cause).__name__)
def test_a_database_that_fails_within_itself_is_no_wrong_setting(cause: psycopg.Error) -> None:
    assert not names_a_setting(wrapped(cause))


@pytest.mark.parametrize("cause", SETTINGS, ids=lambda cause: type(cause).__name__)
def test_who_may_not_in_and_what_is_not_there_is_a_wrong_setting(cause: psycopg.Error) -> None:
    assert names_a_setting(wrapped(cause))
