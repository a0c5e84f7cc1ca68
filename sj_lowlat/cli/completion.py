"""``sj-lowlat completion``."""

from __future__ import annotations

from typing import Any, Literal


def run(shell: Literal["bash", "zsh", "fish"] = "bash") -> None:
    """Print what makes a shell complete verbs and options.

    For this session: eval "$(sj-lowlat completion)"; for all, put that line into ~/.bashrc or ~/.zshrc (with
    --shell zsh). For fish: sj-lowlat completion --shell fish > ~/.config/fish/completions/sj-lowlat.fish

    examples::

      sj-lowlat completion
      sj-lowlat completion --shell zsh

    :param shell: which shell
    """
    print(_fish() if shell == "fish" else _bash(), end="")


def _parsers() -> dict[str, Any]:
    """Verb -> its parser."""
    from sj_lowlat.cli.entry import VERBS, parser_of

    return {verb: parser_of(verb) for verb in VERBS}


def _bash() -> str:
    """For bash, and for zsh, which knows how to take bash's completions."""
    from sj_lowlat.cli.parser import choices

    cases = []
    for verb, parser in _parsers().items():
        for action in parser._actions:
            if (values := choices(action)) and action.option_strings:
                names = "|".join(f"{verb}:{name}" for name in action.option_strings)
                cases.append(f'    {names}) words="{" ".join(values)}" ;;')
        cases.append(f'    {verb}:*) [[ $word == -* ]] && words="{" ".join(parser.options())}" ;;')
    verbs = " ".join(_parsers())
    body = "\n".join(cases)
    return f"""# completions of sj-lowlat for bash and zsh
[ -n "$ZSH_VERSION" ] && autoload -U +X compinit bashcompinit && compinit && bashcompinit
_sj_lowlat() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" verb="${{COMP_WORDS[1]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{verbs} --help --version"
  else case "$verb:${{COMP_WORDS[COMP_CWORD-1]}}" in
{body}
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _sj_lowlat sj-lowlat
"""


def _fish() -> str:
    from sj_lowlat.cli.entry import VERBS
    from sj_lowlat.cli.parser import choices

    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = ["# completions of sj-lowlat for fish"]
    for verb, parser in _parsers().items():
        lines.append(f"complete -c sj-lowlat -n __fish_use_subcommand -a {verb} -d {quoted(VERBS[verb])}")
        for action in parser._actions:
            long = [name[2:] for name in action.option_strings if name.startswith("--")]
            short = [name[1:] for name in action.option_strings if not name.startswith("--")]
            if not long:
                continue
            line = f"complete -c sj-lowlat -n '__fish_seen_subcommand_from {verb}' -l {long[0]}"
            line += f" -s {short[0]}" if short else ""
            line += f" -x -a {quoted(' '.join(values))}" if (values := choices(action)) else ""
            words = " ".join((action.help or "").split())
            lines.append(f"{line} -d {quoted(words.partition('; ')[0][:80])}")
    return "\n".join(lines) + "\n"
