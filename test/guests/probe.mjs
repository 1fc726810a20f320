// probe.mjs tells where it runs, as the kernel shows it. Its answer is kilntest.Facts; probe.py and probe/main.go give the same.
import { readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";

const CONSTANT = "@CONSTANT@";
const loadedAt = Date.now() / 1000;
let count = 0;

function read(path) {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

function memoryLimit() {
  const text = read("/sys/fs/cgroup/memory/memory.limit_in_bytes") || read("/sys/fs/cgroup/memory.max");
  return /^\d+$/.test(text) ? Number(text) : -1;
}

function cpus() {
  let quota = read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  let period = read("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (!quota) [quota, period] = read("/sys/fs/cgroup/cpu.max").split(" ");
  return /^\d+$/.test(quota) && /^\d+$/.test(period) ? Number(quota) / Number(period) : -1;
}

function processAt() {
  const stat = read("/proc/self/stat");
  const ticks = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  return Date.now() / 1000 - Number(read("/proc/uptime").split(" ")[0]) + ticks / 100;
}

function interfaces() {
  return read("/proc/net/dev").split("\n").filter((l) => l.includes(":")).map((l) => l.split(":")[0].trim()).join(" ");
}

export const handler = async (event) => {
  count += 1;
  const facts = {
    beganAt: Date.now() / 1000, loadedAt, processAt: processAt(),
    machineId: read("/etc/machine-id"), hostname: hostname(), pid: process.pid,
    count, constant: CONSTANT, memoryLimit: memoryLimit(), cpus: cpus(),
    marker: read("/tmp/marker"), memorySize: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE ?? "",
    interfaces: interfaces(), event,
  };
  const wishes = event ?? {};
  if (wishes.marker) writeFileSync("/tmp/marker", wishes.marker);
  if (wishes.print) console.log(wishes.print);
  if (wishes.sleepMs) await new Promise((resolve) => setTimeout(resolve, wishes.sleepMs));
  facts.endedAt = Date.now() / 1000;
  return facts;
};
