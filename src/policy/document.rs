//! Which office server holds a document: everybody who edits it must meet at the same one, whichever edge and core the
//! request came through. Rendezvous hashing, so that a server that goes takes only its own documents elsewhere.

/// What names a document in a query; the first that is there counts. ONLYOFFICE's own key comes first.
const PARAMETERS: [&[u8]; 3] = [b"shardkey", b"WOPISrc", b"wopisrc"];

/// A request's document as a number; `None` when the target names none. Every spelling of one address gives one key:
/// the target itself is never decoded for the server.
pub fn key(target: &[u8]) -> Option<u64> {
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (target.get(..at)?, target.get(at + 1..)?),
        None => (target, &b""[..]),
    };
    let named = PARAMETERS.iter().find_map(|name| parameter(query, name));
    named.or_else(|| in_path(path)).map(|text| hash(decoded(text).take_while(|byte| *byte != b'?')))
}

/// The place of a server in the order for `key`: the highest one that is up has the document.
pub fn score(key: u64, server: &[u8]) -> u64 {
    mix(key ^ hash(server.iter().copied()))
}

fn parameter<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    let value = |pair: &'q [u8]| pair.strip_prefix(name)?.strip_prefix(b"=");
    query.split(|byte| *byte == b'&').find_map(value).filter(|value| !value.is_empty())
}

/// `/cool/<address of the document, encoded>/…`, `/lool/` in old releases.
fn in_path(path: &[u8]) -> Option<&[u8]> {
    let rest = path.strip_prefix(b"/cool/").or_else(|| path.strip_prefix(b"/lool/"))?;
    let address = rest.split(|byte| *byte == b'/').next()?;
    // Fixed names (`adminws`, `convert-to`) are no documents.
    let is_address = decoded(address).take(4).eq(*b"http");
    is_address.then_some(address)
}

fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (first, after) = rest.split_first()?;
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
        if let (b'%', [high, low, after @ ..]) = (*first, after)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            rest = after;
            return Some(high << 4 | low);
        }
        rest = after;
        Some(*first)
    })
}

/// FNV-1a: the same on every machine and in every version, which the standard hasher does not promise.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    mix(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// Spreads the differences of similar inputs over all bits (the finalizer of splitmix64).
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_requests_of_a_document_have_one_key() {
        let page = key(b"/browser/abc/cool.html?lang=de&WOPISrc=https%3A%2F%2Fcloud%2Fwopi%2Ffiles%2F7_oc").unwrap();
        for other in [
            "/cool/https%3A%2F%2Fcloud%2Fwopi%2Ffiles%2F7_oc%3Faccess_token%3Dx/ws?WOPISrc=https%3A%2F%2Fcloud%2Fwopi%2Ffiles%2F7_oc&compat=/ws",
            "/cool/https%3A%2F%2Fcloud%2Fwopi%2Ffiles%2F7_oc%3Faccess_token%3Dx%26a%3Db/ws",
            "/cool/https%3a%2f%2fcloud%2fwopi%2ffiles%2f7_oc/ws",
            "/lool/https%3A%2F%2Fcloud%2Fwopi%2Ffiles%2F7_oc/ws",
        ] {
            assert_eq!(key(other.as_bytes()), Some(page), "{other}");
        }
        assert_ne!(key(b"/cool/https%3A%2F%2Fcloud%2Fwopi%2Ffiles%2F8_oc/ws"), Some(page));
        assert_eq!(key(b"/x?shardkey=12&WOPISrc=a"), key(b"/y?WOPISrc=b&shardkey=12"));
    }

    #[test]
    fn what_names_no_document_has_no_key() {
        for target in ["/hosting/discovery", "/cool/adminws", "/cool/convert-to/pdf", "/?WOPISrc=", "/x?a=WOPISrc=b"] {
            assert_eq!(key(target.as_bytes()), None, "{target}");
        }
    }

    fn best<'s>(key: u64, servers: &[&'s str]) -> &'s str {
        servers.iter().max_by_key(|server| score(key, server.as_bytes())).copied().unwrap()
    }

    #[test]
    fn documents_spread_evenly_and_only_those_of_a_lost_server_move() {
        let all = ["10.0.0.1:9980", "10.0.0.2:9980", "10.0.0.3:9980"];
        let mut counts = [0; 3];
        for number in 0..3_000u64 {
            let key = mix(number);
            let home = best(key, &all);
            counts[all.iter().position(|server| *server == home).unwrap()] += 1;
            if home != all[1] {
                assert_eq!(best(key, &[all[0], all[2]]), home);
            }
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }

    #[test]
    fn keys_never_change_between_versions() {
        assert_eq!(key(b"/?WOPISrc=a"), Some(198_367_012_849_983_736));
    }
}
