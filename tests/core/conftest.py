from contract import contract, pytest_generate_tests

__all__ = ["contract", "pytest_generate_tests"]
