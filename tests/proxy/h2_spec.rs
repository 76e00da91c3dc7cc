//! h2spec, the conformance suite of RFC 7540 and 7541, against the worker on both drivers.

use crate::h2::on_each_driver;
use crate::origin::{Origin, ok};
use std::path::PathBuf;
use std::process::Command;

#[test]
fn h2spec_passes() {
    // Put there by the set-up of the tests where there is Go.
    let binary = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers/h2spec");
    if !binary.exists() {
        eprintln!("SKIPPED: h2spec_passes: target/peers/h2spec is not built, it needs Go");
        return;
    }
    let origin = Origin::answering(|_| ok("a body of some bytes, for windows of one"));
    let config = format!("[nextcloud]\nhosts = [\"*\"]\nservers = [\"{}\"]\n", origin.address);
    on_each_driver(&config, |edge| {
        let port = edge.address.port().to_string();
        let output =
            Command::new(&binary).args(["-h", "127.0.0.1", "-p", &port, "-t", "-k", "-o", "3"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains(" 0 failed"), "{said}");
    });
}
