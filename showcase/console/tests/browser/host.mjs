// A host on the embedded store, which flows kill and start again. HOST is its command as JSON; it listens at HOST_URL.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const TIME_OUT_MS = 60_000;

export const HOST_URL = process.env.HOST_URL;
const [program, ...options] = JSON.parse(process.env.HOST);

const folder = await mkdtemp(join(tmpdir(), "console-"));
let host;

/** Starts the host; returns when it responds. Its orders are those of the host before it. */
export async function start() {
  // In a group of its own: Spin starts processes, and all of them are killed.
  host = spawn(program, [...options, "--state-dir", folder], { detached: true, stdio: "ignore" });
  const end = Date.now() + TIME_OUT_MS;
  while (!(await fetch(`${HOST_URL}/healthz`).then(({ ok }) => ok, () => false))) {
    if (Date.now() > end || host.exitCode !== null) throw new Error(`${program} does not serve`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Makes the host hang. */
export const pause = () => process.kill(-host.pid, "SIGSTOP");

/** Kills the host without notice. */
export function kill() {
  if (host?.exitCode === null) process.kill(-host.pid, "SIGKILL");
  host = undefined;
}

/** Kills the host, if it runs, and removes its orders. */
export async function end() {
  kill();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}
process.on("exit", kill);
