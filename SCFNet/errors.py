"""The errors that a person can mend: each message is one line that names what is wrong."""


class InputError(ValueError):
    """Something a person gave is wrong; the message is one line: file, fault, way out."""


class ArgumentError(InputError):
    """An argument has a value that it cannot have. The command line shows its flag instead."""

    def __init__(self, argument: str, fault: str) -> None:
        super().__init__(argument, fault)  # both, so that it pickles
        self.argument, self.fault = argument, fault

    def __str__(self) -> str:
        return f"{self.argument}: {self.fault}"


class CheckpointError(InputError):
    """A checkpoint that cannot be read, is refused, or does not fit the network."""


class NotFiniteError(ArithmeticError):
    """The loss is infinite or not a number."""
