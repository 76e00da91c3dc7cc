//! The request as an ExApp gets it: the head that any server would get, and in it who asks.

use super::step::{Sent, last};
use crate::policy::exapp::decide::Forward;
use crate::policy::exapp::edits;
use crate::policy::headers::{self, Onward, Rewrite};
use crate::proto::http1::RequestHead;
use crate::proto::http1::emit;
use crate::proto::http1::exchange::Framing;
use crate::serve::connection::Connection;
use crate::serve::core::{RequestId, View};
use crate::serve::plan::{self, Gated};

pub(super) fn sent(
    connection: &Connection,
    view: &View,
    head: &RequestHead<'_>,
    gated: &Gated,
    to: &Forward<'_>,
    id: &RequestId,
) -> Sent {
    let client = connection.origin.client(head, &view.snapshot.settings.trust);
    let query = head.target().iter().position(|byte| *byte == b'?').and_then(|at| head.target().get(at..));
    let target = (to.target, query.unwrap_or_default());
    let onward = Onward {
        framing: Framing::of_request(head.body()),
        request_id: connection.origin.request_id(head, id.as_str().as_bytes()),
        forwards_expect: true,
        default_host: b"",
        rewrite: Some(Rewrite { target, host_suffix: b"" }),
    };
    let mut text = plan::text(head);
    text.target_bytes = target.0.len() + target.1.len();
    let dropped = headers::write_request(&mut text.head, head, &connection.origin, &client, &onward);
    connection.core.counters().fields_dropped.add(u64::from(dropped.unusual));
    let mut lines = Vec::new();
    let (aa_version, origin) = (last(head, "aa-version"), last(head, "x-origin-ip"));
    edits::set(to, aa_version, origin, gated.client, |name, value| emit::field(&mut lines, name.as_bytes(), value));
    edit(&mut text.head, &lines);
    let forward = plan::Forward { is_upgrade: head.is_websocket_upgrade(), ..plan::Forward::new(head, gated, text) };
    Sent { forward, host: to.record.host.clone(), port: to.record.port, statuses: to.statuses.clone() }
}

/// Takes what is ours off a whole head, and puts `lines` before its end.
fn edit(head: &mut Vec<u8>, lines: &[u8]) {
    let old = std::mem::take(head);
    head.reserve(old.len() + lines.len());
    let mut all = old.split_inclusive(|byte| *byte == b'\n');
    head.extend_from_slice(all.next().unwrap_or_default());
    for line in all.filter(|line| *line != b"\r\n") {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if !edits::is_stripped(name) {
            head.extend_from_slice(line);
        }
    }
    head.extend_from_slice(lines);
    emit::end(head);
    crate::net::pool::recycle(old);
}

#[cfg(test)]
mod tests {
    use super::edit;

    #[test]
    fn what_is_ours_is_ours_alone_and_the_rest_stays_in_its_order() {
        let mut head =
            b"GET /a:b HTTP/1.1\r\nHost: x\r\nEX-APP-ID: forged\r\nCookie: a\r\naa_version: 1\r\n\r\n".to_vec();
        edit(&mut head, b"EX-APP-ID: foo\r\n");
        assert_eq!(head, b"GET /a:b HTTP/1.1\r\nHost: x\r\nCookie: a\r\nEX-APP-ID: foo\r\n\r\n");
    }
}
