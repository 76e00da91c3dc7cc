//! A test runner for a binary that is also the program under test, with an outcome that libtest lacks: skipped.

use std::panic::catch_unwind;
use std::process::ExitCode;

pub type Test = (&'static str, fn() -> Outcome);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// Not possible on this machine, and why.
    Skipped(&'static str),
}

pub fn skip(why: &'static str) -> Outcome {
    Outcome::Skipped(why)
}

/// Runs the tests whose name contains an argument, one after the other. Understands `--list` as cargo's runners do.
pub fn main(tests: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    for (name, test) in tests.iter().filter(|(name, _)| is_wanted(name)) {
        match catch_unwind(test) {
            Ok(Outcome::Passed) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Ok(Outcome::Skipped(why)) => {
                skipped += 1;
                println!("test {name} ... skipped: {why}");
            }
            Err(_) => {
                failed += 1;
                println!("test {name} ... FAILED");
            }
        }
    }
    println!("\ntest result: {passed} passed; {failed} failed; {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
