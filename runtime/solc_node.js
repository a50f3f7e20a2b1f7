// Runs the npm package `solc` as if it were the solc binary: standard JSON on stdin, or --version.
// ML2SC_SOLC_NPM names the package's own folder.
"use strict";
const solc = require(process.env.ML2SC_SOLC_NPM);
if (process.argv.includes("--version")) {
  console.log("Version: " + solc.version());
} else {
  const chunks = [];
  process.stdin.on("data", (chunk) => chunks.push(chunk));
  process.stdin.on("end", () => process.stdout.write(solc.compile(Buffer.concat(chunks).toString("utf8"))));
}
