//! The interoperability matrix: every case against the real keepalived in namespaces, both roles.
//!
//! The number in a test's name is the case's; `README.md` beside this file lists them all, with those that live
//! elsewhere and those that cannot run here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, unreachable_pub)]

#[path = "../wire/mod.rs"]
mod wire;

mod bench;
mod election;
mod several;
mod speech;
mod trouble;
mod walks;

/// Tests on a LAN of their own: `name: |lan| …;`.
macro_rules! cases {
    ($($name:ident: $body:expr;)*) => {$(
        #[test]
        fn $name() {
            $crate::run(module_path!(), stringify!($name), $body);
        }
    )*};
}
pub(crate) use cases;

/// Runs a case if the peers are there.
fn run(module: &str, name: &str, body: impl FnOnce(&wire::Lan)) {
    let (_, module) = module.split_once("::").unwrap_or_default();
    let test = format!("{module}::{name}");
    if wire::is_installed("keepalived", &test) && wire::is_installed("tshark", &test) {
        wire::on_its_own_lan(&test, body);
    }
}
