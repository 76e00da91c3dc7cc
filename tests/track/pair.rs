//! Two nodes: what a fault and a weight of one of them do to the address.

use crate::lab::{Folder, Node, on_a_segment, until};
use std::fs;

const FILE: &str = "[[track]]\nname = \"file\"\nkind = \"file\"\npath = \"file\"\n";

#[test]
fn a_fault_moves_the_address_and_its_end_does_not_move_it_back() {
    on_a_segment("a_fault_moves_the_address_and_its_end_does_not_move_it_back", |segment| {
        let (here, there) = (segment.place(11), segment.place(12));
        let a = Node::start(&here, Folder::new(), 254, FILE);
        a.is_soon("active");
        let b = Node::start(&there, Folder::new(), 253, "");
        a.folder.write("file", "1");
        b.is_soon("active");
        a.is_soon("backup");
        assert_eq!((a.router().health.as_str(), a.router().reason.as_deref()), ("unable", Some("yielded")));
        fs::remove_file(a.folder.path("file")).unwrap();
        a.becomes("able", 0, "the fault is over");
        let sent = b.router().counters.adverts_sent;
        until("adverts go on", || b.router().counters.adverts_sent > sent + 10);
        assert_eq!((a.router().state.as_str(), b.router().state.as_str()), ("backup", "active"));
    });
}

#[test]
fn a_weight_moves_the_address_only_where_preempt_is_on() {
    on_a_segment("a_weight_moves_the_address_only_where_preempt_is_on", |segment| {
        let (here, there) = (segment.place(11), segment.place(12));
        let weighed = format!("{FILE}weight = -1\n");
        let a = Node::start(&here, Folder::new(), 200, &weighed);
        a.is_soon("active");
        let b = Node::start(&there, Folder::new(), 150, "");
        a.folder.write("file", "100");
        a.becomes("able", -100, "the file says so");
        until("the lower priority is heard", || b.router().peer.is_some_and(|peer| peer.priority == 100));
        let sent = a.router().counters.adverts_sent;
        until("adverts go on", || a.router().counters.adverts_sent > sent + 10);
        assert_eq!((a.router().state.as_str(), b.router().state.as_str()), ("active", "backup"));
        b.reload(150, "preempt = true\n");
        b.is_soon("active");
        a.is_soon("backup");
    });
}
