// SPDX-License-Identifier: Apache-2.0
/** What is done in the new system after its packages are there: users, files, services, scripts. */
import type { PackageSet, SetUser } from "./load.js";

/** Where the script and the files are while it runs; gone afterwards. */
export const STAGE = "/.v3m-setup";

export const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

function userLines(user: SetUser): string[] {
  const { name, uid, home = `/home/${name}`, shell, groups = [], password, sshKeys = [] } = user;
  const id = uid === undefined ? "" : ` -u ${uid}`;
  const more = groups.map((group) => `getent group ${group} >/dev/null || groupadd ${group}`);
  const keys = sshKeys.length === 0 ? [] : sshLines(name, sshKeys);
  return [
    ...more,
    `getent passwd ${name} >/dev/null || useradd -m -U${id} -d ${quote(home)} -s ${quote(shell ?? "/bin/bash")} ${name}`,
    ...(shell === undefined ? [] : [`usermod -s ${quote(shell)} ${name}`]),
    ...(groups.length === 0 ? [] : [`usermod -a -G ${groups.join(",")} ${name}`]),
    ...(password === undefined
      ? []
      : [password === "" ? `passwd -q -d ${name}` : `usermod -p ${quote(password)} ${name}`]),
    ...keys,
  ];
}

function sshLines(name: string, keys: readonly string[]): string[] {
  return [
    `home=$(getent passwd ${name} | cut -d: -f6)`,
    `install -d -m 700 -o ${name} -g ${name} "$home/.ssh"`,
    `printf '%s\\n' ${keys.map(quote).join(" ")} >"$home/.ssh/authorized_keys"`,
    `chown ${name}: "$home/.ssh/authorized_keys"`,
    `chmod 600 "$home/.ssh/authorized_keys"`,
  ];
}

function fileLines({ files }: PackageSet): string[] {
  return files.flatMap(({ path, kind, content, mode, owner }, i) => {
    const [to, permissions] = [quote(path), mode.toString(8)];
    const parent = `mkdir -p ${quote(path.slice(0, path.lastIndexOf("/")) || "/")}`;
    if (kind === "directory") return [`mkdir -p ${to}`, `chown ${owner} ${to}`, `chmod ${permissions} ${to}`];
    if (kind === "link")
      return [parent, `ln -sfn ${quote(content.toString())} ${to}`, `chown -h ${owner} ${to}`];
    const from = `${STAGE}/files/${i}`;
    // A link that is there (resolv.conf) is replaced, not written through.
    return [parent, `rm -f ${to}`, `cp ${from} ${to}`, `chown ${owner} ${to}`, `chmod ${permissions} ${to}`];
  });
}

/** The script, for `sh -e` in the new system. */
export function setupScript(set: PackageSet): string {
  const { enable, disable, mask } = set.services;
  const units = (verb: string, names: readonly string[]) =>
    names.length === 0 ? [] : [`systemctl -q ${verb} ${names.map(quote).join(" ")}`];
  return `${[
    "export DEBIAN_FRONTEND=noninteractive",
    "umask 022",
    ...set.users.flatMap(userLines),
    ...fileLines(set),
    ...units("enable", enable),
    ...units("disable", disable),
    ...units("mask", mask),
    ...set.scripts.map((_, i) => `sh -e ${STAGE}/scripts/${i}`),
  ].join("\n")}\n`;
}
