//! The `pointsman` binary: allocator, arguments, exit code.

use std::process::ExitCode;

mod allocator;

#[global_allocator]
static ALLOCATOR: allocator::Mimalloc = allocator::Mimalloc;

fn main() -> ExitCode {
    pointsman::cli::main()
}
