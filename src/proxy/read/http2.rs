//! An HTTP/2 request head in the form that HTTP/1.1 has (RFC 9113 §8).

use http::header::{COOKIE, HOST, HeaderValue};
use http::{HeaderMap, request};

use crate::proxy::error::Fault;
use crate::telemetry::counters::ErrorCode;

/// One host, one cookie field, no more than `max_fields` fields.
///
/// The library has refused what is malformed in itself: fields of the connection, upper case, pseudo-header fields
/// that are missing or twice, lengths that differ. It answers a head that is too large as a whole by itself.
pub(in crate::proxy) fn settle(parts: &mut request::Parts, max_fields: usize) -> Result<(), Fault> {
    if parts.headers.len() > max_fields {
        let text = format!("the request has more than {max_fields} header fields");
        return Err(Fault::new(ErrorCode::HeadTooLarge, text));
    }
    // Only where some field is repeated at all is it worth looking which.
    if parts.headers.len() != parts.headers.keys_len() {
        join_cookies(&mut parts.headers);
    }
    match (parts.uri.authority(), parts.headers.get(HOST)) {
        (None, None) => Err(Fault::new(ErrorCode::BadRequest, "the request has neither :authority nor a Host field")),
        (Some(authority), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            Err(Fault::new(ErrorCode::BadRequest, "the Host field and :authority differ"))
        }
        _ => Ok(()),
    }
}

/// Cookies may come in crumbs, and must not go on so (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
    headers.insert(COOKIE, joined.expect("valid values with valid bytes between them"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(uri: &str, fields: &[(&str, &str)]) -> Result<HeaderMap, String> {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        match settle(&mut parts, 3) {
            Ok(()) => Ok(parts.headers),
            Err(fault) => Err(fault.message.into_owned()),
        }
    }

    #[test]
    fn there_is_one_host() {
        for good in [("http://a:1/x", "A:1"), ("/x", "a")] {
            assert!(settled(good.0, &[("host", good.1)]).is_ok(), "{good:?}");
        }
        assert!(settled("http://a/", &[]).is_ok());
        assert!(settled("http://a/", &[("host", "b")]).unwrap_err().contains("differ"));
        assert!(settled("/", &[]).unwrap_err().contains("neither"));
    }

    #[test]
    fn crumbs_become_one_cookie() {
        let headers = settled("http://a/", &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")]).unwrap();
        let cookies: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn fields_are_bounded() {
        let four = [("a", "1"), ("b", "1"), ("c", "1"), ("c", "2")];
        assert!(settled("http://a/", &four).unwrap_err().contains("more than 3"));
    }
}
