#!/usr/bin/env bash
# Builds the module and runs it in Node, which needs nothing from outside.
set -euo pipefail
cd "$(dirname "$0")"
target_dir=${CARGO_TARGET_DIR:-$PWD/../../target/wasm}
CARGO_TARGET_DIR=$target_dir cargo build --release --target wasm32-unknown-unknown
module=$target_dir/wasm32-unknown-unknown/release/wasm-director.wasm
node -e '
  const bytes = require("fs").readFileSync(process.argv[1]);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {});
  const code = exports.main(0, 0);
  console.log(`wasm: ${bytes.length} bytes, ${exports.memory.buffer.byteLength} of memory, main says ${code}`);
  process.exit(code);
' "$module"
