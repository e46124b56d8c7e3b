//! `lvsadm`, see the library's module of that name.

use std::process::ExitCode;

fn main() -> ExitCode {
    lvs_director::lvsadm::main()
}
