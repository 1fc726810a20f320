// Greets, and tells what it can see of the place it runs in.
import os from "node:os";

let calls = 0; // kept as long as the container is

export const handler = async (event, context) => {
  calls += 1;
  console.log("call", calls, "for", event.name ?? "nobody");
  return {
    greeting: `hello ${event.name ?? "stranger"}, from Node.js ${process.versions.node}`,
    calls,
    container: os.hostname(),
    leftMs: context.getRemainingTimeInMillis(),
  };
};
