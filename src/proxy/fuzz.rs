//! What endpoints send, read by the proxy's own codec: the head of an answer, and the chunked coding (which clients
//! send, too). [`Sloppy`] is another reader to be held against.

use bytes::Bytes;
use http::HeaderMap;

use super::chunked::Chunked;
use super::decode::{Framing, Piece, read_head};
use crate::fuzz::{Target, pieces, run};

/// All that was read of a body that came in pieces: its data and trailers, and how many bytes were left over;
/// `Err`: what was read until it broke off or turned out malformed (`true`).
pub(super) type Body = Result<(Vec<u8>, HeaderMap, usize), (Vec<u8>, bool)>;

pub(super) fn read_body(framing: &mut Framing, input: &[&[u8]]) -> Body {
    let (mut data, mut arrived) = (vec![], Bytes::new());
    let mut left: usize = input.iter().map(|piece| piece.len()).sum();
    let mut input = input.iter();
    loop {
        let before = arrived.len();
        let piece = framing.next(&mut arrived);
        left -= before - arrived.len();
        match piece {
            Ok(Some(Piece::Data(bytes))) => data.extend_from_slice(&bytes),
            Ok(Some(Piece::Trailers(fields))) => return Ok((data, fields, left)),
            Ok(Some(Piece::End)) => return Ok((data, HeaderMap::new(), left)),
            Ok(None) => match input.next() {
                Some(more) => arrived = [&arrived[..], more].concat().into(),
                None => return Err((data, false)),
            },
            Err(_) => return Err((data, true)),
        }
    }
}

/// How lenient servers read: line ends of one byte, any spaces, the number that a text begins with. Two readers differ
/// where a message means one thing to this one and another to us; such a message we must refuse.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sloppy {
    /// Where both are there, the length frames the body.
    pub length_wins: bool,
    /// Of several lengths, the last counts.
    pub last_length: bool,
    /// A CR alone ends a line.
    pub bare_cr: bool,
}

/// A message as a [`Sloppy`] reader takes it.
#[derive(Debug, PartialEq)]
pub(super) struct Taken {
    pub start: Vec<Vec<u8>>,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Where the next message begins.
    pub end: usize,
}

impl Sloppy {
    pub const ALL: [Self; 5] = {
        let plain = Self { length_wins: false, last_length: false, bare_cr: false };
        [
            plain,
            Self { length_wins: true, ..plain },
            Self { last_length: true, ..plain },
            Self { bare_cr: true, ..plain },
            Self { length_wins: true, last_length: true, bare_cr: true },
        ]
    };

    fn line<'a>(self, bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
        let rest = bytes.get(*at..)?;
        let end = rest.iter().position(|byte| *byte == b'\n' || self.bare_cr && *byte == b'\r')?;
        let crlf = rest[end] == b'\r' && rest.get(end + 1) == Some(&b'\n');
        *at += end + 1 + usize::from(crlf);
        Some(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]))
    }

    /// The message that `bytes` begin with, if it is whole.
    pub fn read(self, bytes: &[u8]) -> Option<Taken> {
        let mut at = 0;
        let mut start = self.line(bytes, &mut at)?;
        while start.is_empty() {
            start = self.line(bytes, &mut at)?;
        }
        let mut fields: Vec<(String, Vec<u8>)> = vec![];
        loop {
            let line = self.line(bytes, &mut at)?;
            if line.is_empty() {
                break;
            }
            let folded = line.starts_with(b" ") || line.starts_with(b"\t");
            match (fields.last_mut(), line.iter().position(|byte| *byte == b':')) {
                (Some((_, value)), _) if folded => value.extend_from_slice(line),
                (_, Some(colon)) => {
                    let name = String::from_utf8_lossy(line[..colon].trim_ascii()).to_ascii_lowercase();
                    fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
                }
                (_, None) => {}
            }
        }
        let body = self.body(bytes, &mut at, &fields)?;
        let words = start.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        Some(Taken { start: words.map(<[u8]>::to_vec).collect(), fields, body, end: at })
    }

    fn body(self, bytes: &[u8], at: &mut usize, fields: &[(String, Vec<u8>)]) -> Option<Vec<u8>> {
        let mut lengths =
            fields.iter().filter(|(name, _)| name == "content-length").map(|(_, value)| number(value, 10));
        let length = if self.last_length { lengths.next_back() } else { lengths.next() };
        let is_chunked = |(name, value): &(String, Vec<u8>)| {
            name == "transfer-encoding" && String::from_utf8_lossy(value).to_ascii_lowercase().contains("chunked")
        };
        let chunked = fields.iter().any(is_chunked);
        let mut data = vec![];
        match length {
            Some(length) if self.length_wins || !chunked => self.take(bytes, at, length, &mut data)?,
            _ if chunked => loop {
                let size = number(self.line(bytes, at)?, 16);
                if size == 0 {
                    while !self.line(bytes, at)?.is_empty() {}
                    break;
                }
                self.take(bytes, at, size, &mut data)?;
                self.line(bytes, at)?;
            },
            _ => {}
        }
        Some(data)
    }

    fn take(self, bytes: &[u8], at: &mut usize, length: u64, data: &mut Vec<u8>) -> Option<()> {
        let end = at.checked_add(usize::try_from(length).ok()?)?;
        data.extend_from_slice(bytes.get(*at..end)?);
        *at = end;
        Some(())
    }
}

/// The number that a text begins with, whatever stands before it.
fn number(text: &[u8], radix: u32) -> u64 {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let text = if radix == 16 { text.strip_prefix(b"0x").unwrap_or(text) } else { text };
    let digits = text.iter().map_while(|byte| char::from(*byte).to_digit(radix));
    digits.fold(0, |number: u64, digit| number.saturating_mul(u64::from(radix)).saturating_add(u64::from(digit)))
}

pub(super) const WORDS: [&str; 24] = [
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\0",
    "0\r\n\r\n",
    ";x=\"\r\n\"",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:\tchunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "transfer-encoding: identity\r\n",
    "Content-Length: 5\r\n",
    "content-length: 0\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length : 5\r\n",
    " Content-Length: 5\r\n",
    "connection: close\r\n",
    "connection: content-length\r\n",
    "HTTP/1.0",
    "HTTP/1.1",
    "0x5",
    "ffffffffffffffff",
    "\u{b}",
];

#[test]
fn chunks_fuzz() {
    run(Target { name: "chunks", words: &WORDS, seeds: vec![], cases: 4000 }, |input| {
        let read = |pieces: &[&[u8]]| read_body(&mut Framing::Chunked(Chunked::default()), pieces);
        let whole = read(&[input]);
        assert_eq!(read(&pieces(input)), whole, "cut somewhere");
        assert_eq!(read(&input.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
        let Ok((data, _, left)) = whole else { return };
        // What we take, everybody takes so.
        let message = [b"X\r\ntransfer-encoding: chunked\r\n\r\n", input].concat();
        for sloppy in Sloppy::ALL {
            let taken = sloppy.read(&message).unwrap_or_else(|| panic!("{sloppy:?} waits for more"));
            assert_eq!((&taken.body, message.len() - taken.end), (&data, left), "{sloppy:?}");
        }
    });
}

#[test]
fn response_heads_fuzz() {
    run(Target { name: "response_heads", words: &WORDS, seeds: vec![], cases: 4000 }, |input| {
        for to_head in [false, true] {
            let Ok(Some((head, length))) = read_head(input, to_head) else { continue };
            assert!((100..1000).contains(&head.status.as_u16()));
            assert!(!head.headers.contains_key("connection") && !head.headers.contains_key("transfer-encoding"));
            let lengths = head.headers.get_all("content-length").iter().count();
            assert!(lengths <= 1 && (lengths == 0 || !matches!(head.framing, Framing::Chunked(_))));
            // Nothing shorter is a whole head, or a wrong one; nothing that follows changes it.
            for cut in [0, 1, length / 3, length / 2, length - 2, length - 1] {
                assert!(matches!(read_head(&input[..cut], to_head), Ok(None)), "cut at {cut}");
            }
            let again = read_head(&input[..length], to_head).expect("it is valid").expect("it is whole");
            assert_eq!((again.0.headers, again.1), (head.headers, length));
        }
    });
}
