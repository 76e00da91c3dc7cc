//! Archives as the engine takes and gives them: plain files, ustar headers.

const BLOCK: usize = 512;

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<'a> {
    File(&'a [u8]),
    /// A link, directory or device.
    Other,
}

/// An archive of `files`, root's and readable by all; names are relative and shorter than 100 bytes.
pub fn write<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        out.extend_from_slice(&header(name, content.len()));
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks are the end.
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| {
        header.iter_mut().skip(at).zip(text).for_each(|(to, from)| *to = *from);
    };
    put(0, name.as_bytes().get(..name.len().min(99)).unwrap_or_default());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let text = format!("{sum:06o}\0 ");
    header.iter_mut().skip(148).zip(text.as_bytes()).for_each(|(to, from)| *to = *from);
    header
}

/// The first member that is something itself, not a remark about the next one.
pub fn first(archive: &[u8]) -> Option<Entry<'_>> {
    let mut rest = archive;
    loop {
        let (header, behind) = rest.split_at_checked(BLOCK)?;
        let size = octal(header.get(124..136)?)?;
        match header.get(156)? {
            // Extended headers, of this member or of all.
            b'x' | b'g' | b'L' | b'K' => rest = behind.get(size.checked_next_multiple_of(BLOCK)?..)?,
            b'0' | 0 if header.first() != Some(&0) => return Some(Entry::File(behind.get(..size)?)),
            _ if header.first() != Some(&0) => return Some(Entry::Other),
            _ => return None,
        }
    }
}

fn octal(field: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { usize::from_str_radix(text, 8).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let archive = write([("etc/os-release", &b"ID=debian\n"[..]), ("b", b"")]);
        assert_eq!(archive.len(), 5 * BLOCK);
        assert_eq!(first(&archive), Some(Entry::File(b"ID=debian\n")));
        let magic = archive.get(257..265).unwrap();
        assert_eq!(magic, b"ustar\x0000");
        // The sum counts its own field as blanks.
        let mut header = archive[..BLOCK].to_vec();
        let sum = octal(&header[148..155]).unwrap();
        header[148..156].fill(b' ');
        assert_eq!(header.iter().map(|byte| usize::from(*byte)).sum::<usize>(), sum);
    }

    #[test]
    fn remarks_are_passed_over_and_links_are_no_files() {
        let mut remark = write([("PaxHeader/x", &b"30 mtime=1.5\n"[..])]);
        remark.truncate(2 * BLOCK);
        remark[156] = b'x';
        let mut link = write([("etc/os-release", &b""[..])]);
        link[156] = b'2';
        assert_eq!(first(&[remark.clone(), link].concat()), Some(Entry::Other));
        let file = write([("a", &b"x"[..])]);
        assert_eq!(first(&[remark, file].concat()), Some(Entry::File(b"x")));
    }

    #[test]
    fn no_archive_of_strangers_breaks_the_reader() {
        let whole = write([("a", &b"content"[..])]);
        for end in 0..whole.len() {
            assert!(matches!(first(&whole[..end]), None | Some(Entry::File(b"content"))));
        }
        assert_eq!(first(&[0; 2048]), None);
        let mut huge = whole;
        huge[124..136].copy_from_slice(b"777777777777");
        assert_eq!(first(&huge), None);
        huge[156] = b'x';
        assert_eq!(first(&huge), None);
        huge[124] = b'9';
        assert_eq!(first(&huge), None);
    }
}
