//! One cookie among those of a client: set with a response, taken off a request.

use http::header::{COOKIE, HeaderMap, HeaderValue, InvalidHeaderValue};

/// Not for scripts, not for other sites' requests but for links to us, and for all of the host.
/// `secure`: nor over connections without TLS.
pub(super) fn set(name: &str, value: &str, max_age: u32, secure: bool) -> Result<HeaderValue, InvalidHeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    HeaderValue::try_from(format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}"))
}

/// Removes the pairs of this name; all others stay byte for byte. A line without any is left as it is.
pub(super) fn take(headers: &mut HeaderMap, name: &str) {
    if !headers.get_all(COOKIE).iter().any(|line| pairs(line.as_bytes()).any(|pair| is_of(pair, name))) {
        return;
    }
    let lines: Vec<Vec<u8>> = headers.get_all(COOKIE).iter().map(|line| without(line.as_bytes(), name)).collect();
    headers.remove(COOKIE);
    let lines = lines.iter().filter(|line| !line.is_empty());
    for line in lines.filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        headers.append(COOKIE, line);
    }
}

fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn is_of(pair: &[u8], name: &str) -> bool {
    pair.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
}

fn without(line: &[u8], name: &str) -> Vec<u8> {
    let kept: Vec<&[u8]> = pairs(line).filter(|pair| !is_of(pair, name) && !pair.is_empty()).collect();
    kept.join(&b"; "[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_goes_and_the_others_stay() {
        let cases: [(&[&str], &[&str]); 7] = [
            (&["a=1; pin=x; b=2"], &["a=1; b=2"]),
            (&["pin=x"], &[]),
            (&["a=1", "pin=x; pin=y", "b=\"2;\""], &["a=1", "b=\"2; \""]),
            (&["spin=x; pinn=y; pin"], &["spin=x; pinn=y; pin"]),
            (&["a=1;pin=;;b=2"], &["a=1; b=2"]),
            (&["a=1;b=2"], &["a=1;b=2"]),
            (&["pin=x;pin2=y"], &["pin2=y"]),
        ];
        for (given, left) in cases {
            let mut headers = HeaderMap::new();
            for line in given {
                headers.append(COOKIE, line.parse().unwrap());
            }
            take(&mut headers, "pin");
            let lines: Vec<_> = headers.get_all(COOKIE).iter().map(|line| line.to_str().unwrap()).collect();
            assert_eq!(lines, left, "{given:?}");
        }
    }

    #[test]
    fn it_is_set_for_the_browser_alone() {
        let set = set("pin", "token", 3600, false).unwrap();
        assert_eq!(set, "pin=token; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
        let set = super::set("pin", "token", 3600, true).unwrap();
        assert_eq!(set, "pin=token; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure");
    }
}
