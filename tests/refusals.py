"""Tables of what is refused, as tests."""

import pytest


def refuses(build, cases):
    """A test of pairs: ``build`` of the first is refused with the second."""
    @pytest.mark.parametrize(('given', 'message'), cases)
    def test(given, message):
        with pytest.raises(ValueError, match=message):
            build(**given) if isinstance(given, dict) else build(given)
    return test
