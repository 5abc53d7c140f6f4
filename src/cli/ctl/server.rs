//! Where the instance is: `--server`, read once.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// `http://host[:port][/prefix]`, or `https://`; the prefix is for an instance behind a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    secure: bool,
    host: String,
    port: u16,
    prefix: String,
}

impl Server {
    /// Whether TLS is spoken with it.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// To connect to: an IPv6 address without its brackets.
    pub fn address(&self) -> (&str, u16) {
        let bare = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        (bare.unwrap_or(&self.host), self.port)
    }

    /// For the `Host` header.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The request target of a path of the API.
    pub fn target(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.prefix)
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected a URL such as http://127.0.0.1:9901";
        let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| expected.to_owned())?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(expected.into()),
        };
        let (Some(host), None) = (uri.host().filter(|host| !host.is_empty()), uri.query()) else {
            return Err(expected.into());
        };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("a URL here has no user and password; use --token or --token-file".into());
        }
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, host: host.to_owned(), port, prefix: uri.path().trim_end_matches('/').to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown() {
        for (text, shown, target) in [
            ("http://127.0.0.1:9901", "http://127.0.0.1:9901", "/api"),
            ("http://localhost:9901/", "http://localhost:9901", "/api"),
            ("http://gateway/pointsman/", "http://gateway:80/pointsman", "/pointsman/api"),
            ("http://[::1]:9901", "http://[::1]:9901", "/api"),
            ("https://a.example", "https://a.example:443", "/api"),
        ] {
            let server: Server = text.parse().unwrap();
            assert_eq!((server.to_string().as_str(), server.target("/api").as_str()), (shown, target), "{text}");
        }
        assert_eq!("http://[::1]:9901".parse::<Server>().unwrap().address(), ("::1", 9901));
    }

    #[test]
    fn what_is_no_url_of_ours_is_refused_with_the_remedy() {
        for (text, words) in [
            ("127.0.0.1:9901", "such as http://"),
            ("", "such as http://"),
            ("http://", "such as http://"),
            ("ftp://host", "such as http://"),
            ("http://host?x=1", "such as http://"),
            ("http://me:secret@host", "--token"),
        ] {
            let refusal = text.parse::<Server>().unwrap_err();
            assert!(refusal.contains(words), "{text}: {refusal}");
        }
    }
}
