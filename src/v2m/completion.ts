// SPDX-License-Identifier: Apache-2.0
/** `v2m completion SHELL`: completion scripts, generated from the commands themselves. */
import type { Command, Option } from "commander";
import { KNOWN_TYPES } from "../vmm/backend.js";
import { type Operands, operandsOf } from "./command.js";
import { PROFILE_OPTIONS } from "./profile-options.js";
import { UsageError } from "./values.js";

/** Options whose value is a file. */
const FILE_OPTIONS = new Set([
  "--kernel",
  "--initrd",
  "--kvm",
  "--disk",
  "--pmem",
  "--module",
  "--output",
  "--machine",
  "--from-cdrom",
  "--with-oscar",
]);

/** What the names of VMs are asked from. */
const NAMES = "v2m list --names 2>/dev/null";
/** And those of images. */
const IMAGES = "v2m image list --names 2>/dev/null";

interface Spec {
  readonly name: string;
  readonly description: string;
  readonly operands: Operands | undefined;
  /** Names of the verbs within it; its options are all of theirs. */
  readonly verbs: readonly string[];
  readonly options: readonly {
    readonly flag: string;
    readonly description: string;
    readonly choices: string[];
  }[];
}

/** Options of a command, or of the verbs within it, each once. */
function optionsOf(command: Command): readonly Option[] {
  const all = [...command.options, ...command.commands.flatMap((inner) => inner.options)];
  return [...new Map(all.map((option) => [option.long, option])).values()];
}

function specs(program: Command): Spec[] {
  return program.commands.map((command) => ({
    name: command.name(),
    description: command.description(),
    operands: operandsOf(command),
    verbs: command.commands.map((inner) => inner.name()),
    options: optionsOf(command)
      .filter((option) => option.long !== undefined && !option.hidden)
      .map((option) => ({
        flag: option.long ?? "",
        description: option.description,
        choices: option.argChoices ?? [],
      })),
  }));
}

function bash(all: readonly Spec[]): string {
  const operands = (c: Spec) => {
    if (c.operands === "vms") return ` [[ $word == -* ]] || words=$(${NAMES})`;
    if (c.operands === "images") {
      return ` [[ $word == -* ]] || { [[ $COMP_CWORD == 2 ]] && words="${c.verbs.join(" ")}" || words=$(${IMAGES}); }`;
    }
    if (c.operands === "types") return ` [[ $word == -* ]] || words="${KNOWN_TYPES.join(" ")}"`;
    return c.operands === "files"
      ? ' [[ $word == -* ]] || { COMPREPLY=($(compgen -f -- "$word")); return; }'
      : "";
  };
  const cases = all.map((c) => {
    const options = `words="${c.options.map((o) => o.flag).join(" ")} --help"`;
    const more = operands(c);
    return `    ${c.name}) ${options}${more === "" ? "" : `;${more}`} ;;`;
  });
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
    *.xml) words="${Object.keys(PROFILE_OPTIONS).join(" ")}" ;;
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
  const operands = (c: Spec) => {
    if (c.operands === "vms") return "'*:VM:_v2m_names'";
    if (c.operands === "images") return `'2:verb:(${c.verbs.join(" ")})' '*:image:($(${IMAGES}))'`;
    return c.operands === "types" ? `'*:type:(${KNOWN_TYPES.join(" ")})'` : "'*:file:_files'";
  };
  const cases = all.map((c) => {
    const words = [...c.options.map(option), operands(c)];
    return `    ${c.name}) _arguments ${words.join(" ")} ;;`;
  });
  return `#compdef v2m
# v2m completion for zsh: v2m completion zsh > "\${fpath[1]}/_v2m"
_v2m_names() {
  local -a names=(\${(f)"$(${NAMES})"})
  _describe VM names
}
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
  const operands = (c: Spec) => {
    const words =
      c.operands === "vms"
        ? `(${NAMES})`
        : c.operands === "images"
          ? `${c.verbs.join(" ")} (${IMAGES})`
          : c.operands === "types"
            ? KNOWN_TYPES.join(" ")
            : undefined;
    return words === undefined
      ? []
      : [`complete -c v2m -n '__fish_seen_subcommand_from ${c.name}' -f -a '${words}'`];
  };
  const lines = all.flatMap((c) => [
    `complete -c v2m -n __fish_use_subcommand -f -a ${c.name} -d '${quote(c.description)}'`,
    ...operands(c),
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
