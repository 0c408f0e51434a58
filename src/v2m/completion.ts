// SPDX-License-Identifier: Apache-2.0
/** `v2m completion SHELL`: completion scripts, generated from the commands themselves. */
import type { Command } from "commander";
import { UsageError } from "./values.js";

/** Options whose value is a file. */
const FILE_OPTIONS = new Set(["--kernel", "--initrd", "--kvm", "--disk", "--pmem"]);

interface Spec {
  readonly name: string;
  readonly description: string;
  readonly options: readonly {
    readonly flag: string;
    readonly description: string;
    readonly choices: string[];
  }[];
}

function specs(program: Command): Spec[] {
  return program.commands.map((command) => ({
    name: command.name(),
    description: command.description(),
    options: command.options
      .filter((option) => option.long !== undefined && !option.hidden)
      .map((option) => ({
        flag: option.long ?? "",
        description: option.description,
        choices: option.argChoices ?? [],
      })),
  }));
}

function bash(all: readonly Spec[]): string {
  const cases = all.map((c) => `    ${c.name}) words="${c.options.map((o) => o.flag).join(" ")} --help" ;;`);
  const choices = all
    .flatMap((c) => c.options)
    .filter((o) => o.choices.length > 0)
    .map((o) => `    ${o.flag}) COMPREPLY=($(compgen -W "${o.choices.join(" ")}" -- "$word")); return ;;`);
  return `# v2m completion for bash: source <(v2m completion bash)
_v2m() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} words
  case $before in
    ${[...FILE_OPTIONS].join("|")}) COMPREPLY=($(compgen -f -- "$word")); return ;;
${choices.join("\n")}
  esac
  case \${COMP_WORDS[1]} in
${cases.join("\n")}
    *) words="${all.map((c) => c.name).join(" ")} --help --version" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _v2m v2m
`;
}

const quote = (text: string) => text.replaceAll("'", "'\\''");

function zsh(all: readonly Spec[]): string {
  const brackets = (text: string) => quote(text).replaceAll("[", "\\[").replaceAll("]", "\\]");
  const option = (o: Spec["options"][number]) => {
    const value = FILE_OPTIONS.has(o.flag)
      ? ":file:_files"
      : o.choices.length > 0
        ? `:value:(${o.choices.join(" ")})`
        : "";
    return `'${o.flag}[${brackets(o.description)}]${value}'`;
  };
  const cases = all.map(
    (c) => `    ${c.name}) _arguments ${c.options.map(option).join(" ")} '*:file:_files' ;;`,
  );
  return `#compdef v2m
# v2m completion for zsh: v2m completion zsh > "\${fpath[1]}/_v2m"
_v2m() {
  if (( CURRENT == 2 )); then
    local -a commands=(${all.map((c) => `'${c.name}:${quote(c.description)}'`).join(" ")})
    _describe command commands
    return
  fi
  case $words[2] in
${cases.join("\n")}
  esac
}
compdef _v2m v2m
`;
}

function fish(all: readonly Spec[]): string {
  const lines = all.flatMap((c) => [
    `complete -c v2m -n __fish_use_subcommand -f -a ${c.name} -d '${quote(c.description)}'`,
    ...c.options.map((o) => {
      const value =
        o.choices.length > 0 ? ` -x -a '${o.choices.join(" ")}'` : FILE_OPTIONS.has(o.flag) ? " -r -F" : "";
      return `complete -c v2m -n '__fish_seen_subcommand_from ${c.name}' -l ${o.flag.slice(2)}${value} -d '${quote(o.description)}'`;
    }),
  ]);
  return `# v2m completion for fish: v2m completion fish > ~/.config/fish/completions/v2m.fish\n${lines.join("\n")}\n`;
}

export const SHELLS = ["bash", "zsh", "fish"] as const;

export function completion(program: Command, shell: string): string {
  const all = specs(program);
  switch (shell) {
    case "bash":
      return bash(all);
    case "zsh":
      return zsh(all);
    case "fish":
      return fish(all);
    default:
      throw new UsageError(`completion ${shell}: unknown shell`, `one of ${SHELLS.join(", ")}`);
  }
}
