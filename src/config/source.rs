//! The file's text, and the name of its content.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use sha1::{Digest, Sha1};

use super::errors::ConfigErrors;
use super::hex;

/// A larger file is refused; 100,000 agents fit.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

pub(super) fn read(path: &Path) -> Result<String, ConfigErrors> {
    let name = path.display().to_string();
    let bytes = read_bytes(path).map_err(|error| ConfigErrors::of_file(&name, unreadable(&error)))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigErrors::of_file(&name, format!("line {line} is not UTF-8 text; save the file as UTF-8"))
    })
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Asked before opening: to open a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 16MiB"));
    }
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "check the path, it is relative to the working directory",
        io::ErrorKind::PermissionDenied => "let the user that runs pointsman read the file and its directories",
        io::ErrorKind::FileTooLarge => "a configuration has at most 16MiB",
        _ => "expected a readable YAML file",
    };
    format!("the file cannot be read: {error}; {remedy}")
}

/// First 16 hex digits of the SHA-1.
pub(super) fn content_hash(bytes: &[u8]) -> Arc<str> {
    hex(&Sha1::digest(bytes)[..8]).into()
}
