"""A package of somebody else, as far as the tests need one."""
