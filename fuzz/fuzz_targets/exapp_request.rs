//! Any path, any record and any pattern of a route, each on a line. Whatever they are, a client reaches no life-cycle call
//! and nothing above its app, and what an archive or a body of strangers holds is a value or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::policy::exapp::control::{self, Verb};
use lyre::policy::exapp::decide::{Decision, Facts, Known, decide};
use lyre::policy::exapp::engine::tar;
use lyre::policy::exapp::path::{has_parent_segment, is_internal};
use lyre::policy::exapp::record::Record;
use lyre::policy::exapp::records::Lookup;
use lyre::proto::http1::Method;
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let path = lines.next().unwrap_or_default();
    let pattern = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let rest = lines.next().unwrap_or_default();
    let routes = serde_json::json!([{ "url": pattern, "access_level": 0 }]);
    let record = serde_json::json!({
        "exapp_token": "T", "exapp_version": "1", "host": "h", "port": 1, "routes": routes,
    });
    let Ok(record) = Record::parse(record.to_string().as_bytes()) else { unreachable!() };
    let facts = Facts::of(path, false, |_| None, |_| false);
    let known = Known { record: Some(Lookup::Known(Arc::new(record))), user: None };
    match decide(&facts, &known) {
        Decision::Forward(forward) => {
            assert!(forward.target.starts_with(b"/") && !has_parent_segment(path));
            assert!(!is_internal(forward.target));
        }
        Decision::Refuse(_) => {}
        other => panic!("{other:?}"),
    }
    if let Some(call) = control::raw_call(Method::Get, path) {
        assert!(call.starts_with('/') && call.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?'));
    }
    let _ = Record::parse(rest);
    let _ = tar::first(rest);
    for verb in [Verb::Create, Verb::ImageRemove, Verb::InstallCertificates] {
        let _ = control::docker(verb, Some(b"24000"), rest);
    }
});
