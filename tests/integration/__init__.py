import pytest

pytest.register_assert_rewrite("tests.integration.answers", "tests.integration.hosts", "tests.integration.load")
