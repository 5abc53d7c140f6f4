//! The normal form of a path (RFC 3986 §6.2.2), in which it is matched.
//!
//! Unreserved characters stand as themselves, all other escapes in capitals; bytes that no URI may have stand
//! escaped; `.` and `..` are resolved, also where they were written `%2e`, and never lead above the root; several
//! slashes are one. An escape is decoded once: `%252e` is no dot.
//!
//! Refused is what would be a path to one reader and something else to the next: `%00`, an escape that is none,
//! and, unless the policy keeps them, a slash or backslash that is escaped, and a bare backslash. Not here: what
//! stands after `;` within a segment (some agents' path parameters) is a part of it.
//!
//! A path that is normal already, as nearly all are, costs one look at its bytes.

use std::borrow::Cow;

/// What is done about forms of paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathPolicy {
    pub slashes: EncodedSlash,
    pub forward: ForwardPath,
}

/// A slash that is no separator, and a backslash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlash {
    #[default]
    Refuse,
    /// As `%2F` and `%5C`, within their segment.
    Keep,
}

/// What goes on to the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardPath {
    #[default]
    Normalised,
    AsReceived,
}

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("a percent sign in the path is not followed by two hexadecimal digits")]
    Escape,
    #[error("the path has a NUL character")]
    Nul,
    #[error("the path has an encoded slash or a backslash, which this proxy refuses")]
    Slash,
}

/// The normal form; borrowed where the path is in it. What is no path, such as `*`, stays as it is.
pub fn normalise(path: &str, slashes: EncodedSlash) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') || !may_differ(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let normal = resolve(&decode(path.as_bytes(), slashes)?);
    Ok(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
}

fn may_differ(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().any(|byte| {
        let suspect = match byte {
            b'%' | b'\\' | 0x80.. => true,
            b'/' | b'.' => before == b'/',
            _ => false,
        };
        before = *byte;
        suspect
    })
}

fn decode(path: &[u8], slashes: EncodedSlash) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len());
    let mut at = 0;
    while let Some(&written) = path.get(at) {
        let byte = if written == b'%' { escaped(&path[at + 1..])? } else { written };
        let is_escaped = written == b'%';
        at += if is_escaped { 3 } else { 1 };
        match byte {
            0 => return Err(BadPath::Nul),
            b'\\' if slashes == EncodedSlash::Refuse => return Err(BadPath::Slash),
            b'/' if is_escaped && slashes == EncodedSlash::Refuse => return Err(BadPath::Slash),
            b'\\' | 0x80.. => escape(&mut out, byte),
            _ if is_escaped && !is_unreserved(byte) => escape(&mut out, byte),
            _ => out.push(char::from(byte)),
        }
    }
    Ok(out)
}

/// What stands after a percent sign.
fn escaped(rest: &[u8]) -> Result<u8, BadPath> {
    let digit = |at: usize| rest.get(at).and_then(|digit| char::from(*digit).to_digit(16)).ok_or(BadPath::Escape);
    Ok((digit(0)? << 4 | digit(1)?) as u8)
}

fn escape(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Without dot segments (RFC 3986 §5.2.4) and empty ones.
fn resolve(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" | "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        if last {
            out.push('/');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(path: &str) -> String {
        normalise(path, EncodedSlash::Refuse).expect(path).into_owned()
    }

    #[test]
    fn each_path_has_one_form() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//", "/"),
            ("///a//b//", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a/"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/../../a", "/a"),
            ("/a/b/../../../c", "/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a//../b", "/b"),
            ("/%61dmin", "/admin"),
            ("/%7euser", "/~user"),
            ("/a%20b%c3%a9", "/a%20b%C3%A9"),
            ("/é", "/%C3%A9"),
            ("/a%252e%252e/b", "/a%252e%252e/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/.../a", "/.../a"),
            ("/a..b/..c", "/a..b/..c"),
            ("/a;b=c/..;/d", "/a;b=c/..;/d"),
            ("/a%3bb%26", "/a%3Bb%26"),
            ("*", "*"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        for path in ["/", "/v1/chat/completions", "/.well-known/a", "/a%20b", "*"] {
            assert!(matches!(normalise(path, EncodedSlash::Refuse), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    #[test]
    fn what_two_readers_could_take_otherwise_has_none() {
        for (path, why) in [
            ("/a%00", BadPath::Nul),
            ("/a%2fb", BadPath::Slash),
            ("/a%2Fb", BadPath::Slash),
            ("/a%5c..%5cb", BadPath::Slash),
            ("/a\\..\\b", BadPath::Slash),
            ("/a%", BadPath::Escape),
            ("/a%2", BadPath::Escape),
            ("/a%zz", BadPath::Escape),
            ("/a%+1", BadPath::Escape),
        ] {
            assert_eq!(normalise(path, EncodedSlash::Refuse), Err(why), "{path}");
        }
        let kept = |path| normalise(path, EncodedSlash::Keep).map(Cow::into_owned);
        assert_eq!(kept("/a%2fb/..%2fc").as_deref(), Ok("/a%2Fb/..%2Fc"));
        assert_eq!(kept("/a\\b/../%5cc").as_deref(), Ok("/%5Cc"));
        assert_eq!(kept("/a%00"), Err(BadPath::Nul));
    }

    fn any_path() -> impl Strategy<Value = String> {
        prop_oneof![
            "(/|\\.|%2e|%2E|%2f|%5c|\\\\|%00|%25|%|a|B|é|;){0,24}".prop_map(|rest| format!("/{rest}")),
            "/[ -~]{0,40}",
        ]
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own_and_hides_nothing(path in any_path(), keep: bool) {
            let slashes = if keep { EncodedSlash::Keep } else { EncodedSlash::Refuse };
            let Ok(normal) = normalise(&path, slashes) else { return Ok(()) };
            prop_assert!(normal.starts_with('/') && normal.is_ascii());
            prop_assert!(!normal.contains("//") && !normal.contains('\\'));
            prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
            let lower = normal.to_ascii_lowercase();
            prop_assert!(!lower.contains("%2e") && !lower.contains("%00"));
            prop_assert!(keep || (!lower.contains("%2f") && !lower.contains("%5c")));
            prop_assert!(matches!(normalise(&normal, slashes), Ok(Cow::Borrowed(same)) if same == normal));
        }
    }
}
