"""The one kind of error that a user can mend."""


class StudyError(Exception):
    """Bad input: the message names the file or key, what is wrong, and what to do."""
