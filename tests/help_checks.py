"""What every --help must say."""


def check_help(parser):
    """Each option says what it does and its default, once."""
    for action in parser._actions:
        if action.option_strings and action.dest not in ("help", "version"):
            text = parser._get_formatter()._expand_help(action)
            assert text.count("(default: ") == 1 and text.endswith(")") and len(text) > 25, (action.option_strings, text)
    text = parser.format_help()
    assert "default: None" not in text and "default: False" not in text and "SUPPRESS" not in text
