// Runs the npm package `solc`, whose folder ML2SC_SOLC_NPM names. With --version or --standard-json as if it were the
// solc binary; else it answers one standard JSON input after the other (loading it takes far longer than most contracts
// do): each comes on stdin, and its answer goes to stdout, after a line with its length in bytes.
"use strict";
const IDLE_SECONDS = 60; // it holds 300 MB
const solc = require(process.env.ML2SC_SOLC_NPM);
if (process.argv.includes("--version")) {
  console.log("Version: " + solc.version());
} else if (process.argv.includes("--standard-json")) {
  const chunks = [];
  process.stdin.on("data", (chunk) => chunks.push(chunk));
  process.stdin.on("end", () => process.stdout.write(solc.compile(Buffer.concat(chunks).toString("utf8"))));
} else {
  let chunks = [];
  let wanted = -1; // bytes of the question that is coming in
  let idle = setTimeout(() => process.exit(0), IDLE_SECONDS * 1000);
  process.stdin.on("end", () => process.exit(0));
  process.stdin.on("data", (chunk) => {
    clearTimeout(idle);
    chunks.push(chunk);
    if (wanted < 0) {
      const come = Buffer.concat(chunks);
      const line = come.indexOf(10);
      if (line < 0) return;
      wanted = Number(come.subarray(0, line).toString());
      chunks = [come.subarray(line + 1)];
    }
    if (chunks.reduce((sum, part) => sum + part.length, 0) < wanted) return;
    const answer = Buffer.from(solc.compile(Buffer.concat(chunks).toString("utf8")));
    chunks = [];
    wanted = -1;
    process.stdout.write(answer.length + "\n");
    process.stdout.write(answer);
    idle = setTimeout(() => process.exit(0), IDLE_SECONDS * 1000);
  });
}
