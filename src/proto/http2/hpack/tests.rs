use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The blocks of one connection after each other: what each held, and how large the table was behind it.
fn follow(table_bytes_max: u32, blocks: &[&str]) -> Vec<(bool, u32, usize)> {
    let mut follower = Follower::new();
    follower.table_bytes_max = table_bytes_max;
    let mut seen = Vec::new();
    for block in blocks {
        follower.push(&bytes(block));
        seen.push((follower.end(), follower.table_bytes, follower.table.len()));
        assert!(!follower.is_lost);
    }
    seen
}

#[test]
fn the_tables_of_appendix_c_have_their_sizes() {
    // C.3 and C.4: the same requests, plain and coded.
    let requests = [(true, 57, 1), (true, 110, 2), (true, 164, 3)];
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    assert_eq!(follow(4096, &plain), requests);
    assert_eq!(follow(4096, &coded), requests);
    // C.5 and C.6: responses, with a table of 256 bytes that has to let go of entries.
    let responses = [(true, 222, 4), (true, 222, 4), (true, 215, 3)];
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d \
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f \
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b \
         2076 6572 7369 6f6e 3d31",
    ];
    let coded = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 \
         8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 \
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    assert_eq!(follow(256, &plain), responses);
    assert_eq!(follow(256, &coded), responses);
}

#[test]
fn a_pseudo_field_is_known_in_every_form() {
    let ordinary = "0001 7801 79";
    for (form, expected) in [
        ("82", true),                      // :method by its index
        ("8f", false),                     // accept-charset, the first that is none
        ("8e", true),                      // :status, the last that is one
        ("04 01 2f", true),                // :path by the index of its name
        ("14 01 2f", true),                // the same, never to be indexed
        ("00 05 3a70617468 01 2f", true),  // :path spelt out
        ("00 84 b958d33f 01 2f", true),    // :path coded
        ("00 04 70617468 01 2f", false),   // path
        ("00 01 78 05 3a70617468", false), // only its value looks like one
        ("00 00 01 78", false),            // no name at all
        ("7f 2e 01 78", false),            // an index beyond the tables: lost
        ("3f e1 1f", false),               // the table gets the size it has
    ] {
        let mut follower = Follower::new();
        follower.push(&bytes(form));
        assert_eq!(follower.end(), expected, "{form}");
        if form == "7f 2e 01 78" {
            assert!(follower.is_lost);
            continue;
        }
        assert!(!follower.is_lost, "{form}");
        follower.push(&bytes(ordinary));
        assert!(!follower.end(), "the block behind {form}");
    }
}

#[test]
fn an_entry_is_a_pseudo_field_as_long_as_it_is_in_the_table() {
    let mut follower = Follower::new();
    let mut ask = |block: &str| {
        follower.push(&bytes(block));
        let held = follower.end();
        (held, follower.is_lost)
    };
    assert_eq!(ask("41 01 61"), (true, false), ":authority: a enters");
    assert_eq!(ask("40 01 78 01 79"), (false, false), "x: y enters before it");
    assert_eq!(ask("be"), (false, false));
    assert_eq!(ask("bf"), (true, false));
    assert_eq!(ask("7f 00 01 62"), (true, false), "another :authority by its entry's name");
    assert_eq!(ask("be"), (true, false));
    assert_eq!(ask("c1"), (false, true), "there are only three");
    let mut follower = Follower::new();
    follower.push(&bytes("41 01 61 20 3f e1 1f be"));
    assert!(!follower.end() && follower.is_lost, "a table of no size forgot it");
}

#[test]
fn the_verdict_does_not_depend_on_how_a_block_was_cut() {
    let block =
        bytes("8286 84be 5886 a8eb 1064 9cbf 0084 b958 d33f 012f 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf");
    let before = bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
    for size in 1..block.len() {
        let mut follower = Follower::new();
        before.chunks(size).for_each(|piece| follower.push(piece));
        assert!(follower.end());
        block.chunks(size).for_each(|piece| follower.push(piece));
        assert!(follower.end() && !follower.is_lost, "{size}");
        assert_eq!((follower.table_bytes, follower.table.len()), (164, 3), "{size}");
    }
}

#[test]
fn arbitrary_bytes_neither_panic_nor_grow_the_table_beyond_its_size() {
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut follower = Follower::new();
        for _ in 0..random.usize(1..8) {
            let block: Vec<u8> = (0..random.usize(..120))
                .map(|_| {
                    if random.u8(..4) == 0 {
                        *random.choice(&[0x40, 0x41, 0x82, 0xbe, 0x00, 0x20]).unwrap()
                    } else {
                        random.u8(..)
                    }
                })
                .collect();
            block.chunks(random.usize(1..50)).for_each(|piece| follower.push(piece));
            follower.end();
            let bytes: u32 = follower.table.iter().map(|entry| entry.bytes()).sum();
            assert!(bytes == follower.table_bytes && bytes <= TABLE_BYTES_MAX, "seed {seed}");
        }
    }
}
