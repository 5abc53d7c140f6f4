use std::path::Path;

use super::*;
use crate::tls::fixture::Authority;
use crate::tls::pair::{Pair, PairSpec};

struct One(String, Pair);

impl OfFiles for One {
    fn certificates(&self) -> Vec<(String, &Certificate)> {
        vec![(self.0.clone(), &self.1.certificate)]
    }
}

/// A cell of the pair `p` in a directory.
fn cell(cells: &Cells, directory: &Path) -> Result<Arc<Cell<One>>, TlsError> {
    let spec = PairSpec { cert: directory.join("p.pem"), key: directory.join("p.key") };
    cells.make("a.place", move |files, _| Ok(One("p.pem".into(), Pair::read(files, &spec)?)))
}

fn names(cell: &Cell<One>) -> Vec<String> {
    cell.load().1.certificate.dns.clone()
}

#[test]
fn changed_files_come_into_use_when_they_rest() {
    let (ca, directory, cells) = (Authority::new("root"), tempfile::tempdir().unwrap(), Cells::default());
    ca.issue(&["old.example"]).write(directory.path(), "p");
    let cell = cell(&cells, directory.path()).unwrap();
    cells.look();
    ca.issue(&["new.example"]).write(directory.path(), "p");
    cells.look();
    assert_eq!(names(&cell), ["old.example"], "the key might still be on its way");
    cells.look();
    assert_eq!(names(&cell), ["new.example"]);
    cells.look();
    let figures = cells.figures();
    assert_eq!((figures.renewed, figures.refused, figures.failing), (1, 0, 0));
    assert_eq!(figures.certificates.len(), 1);
}

#[test]
fn a_bad_pair_changes_nothing_and_is_shown_until_it_is_good_again() {
    let (ca, directory, cells) = (Authority::new("root"), tempfile::tempdir().unwrap(), Cells::default());
    let old = ca.issue(&["old.example"]);
    old.write(directory.path(), "p");
    let cell = cell(&cells, directory.path()).unwrap();
    std::fs::write(directory.path().join("p.pem"), ca.issue(&["new.example"]).pem()).unwrap();
    (0..4).for_each(|_| cells.look());
    assert_eq!(names(&cell), ["old.example"]);
    let error = cells.status()[0].error.clone().expect("is shown").to_string();
    assert!(error.contains("p.key: the private key does not belong to the certificate in"), "{error}");
    let figures = cells.figures();
    assert_eq!((figures.renewed, figures.refused, figures.failing), (0, 1, 1), "once, however often one looks");

    std::fs::remove_file(directory.path().join("p.pem")).unwrap();
    (0..3).for_each(|_| cells.look());
    assert_eq!(names(&cell), ["old.example"]);
    old.write(directory.path(), "p");
    (0..3).for_each(|_| cells.look());
    assert_eq!((names(&cell), cells.figures().failing), (vec!["old.example".to_owned()], 0));
}

#[test]
fn a_swapped_link_is_a_change_and_a_touched_file_is_none() {
    let (ca, directory, cells) = (Authority::new("root"), tempfile::tempdir().unwrap(), Cells::default());
    let at = directory.path();
    for (version, name) in [("v1", "old.example"), ("v2", "new.example")] {
        std::fs::create_dir(at.join(version)).unwrap();
        ca.issue(&[name]).write(&at.join(version), "p");
    }
    std::os::unix::fs::symlink("v1", at.join("data")).unwrap();
    for file in ["p.pem", "p.key"] {
        std::os::unix::fs::symlink(Path::new("data").join(file), at.join(file)).unwrap();
    }
    let cell = cell(&cells, at).unwrap();
    let text = std::fs::read(at.join("v1/p.pem")).unwrap();
    std::fs::write(at.join("v1/p.pem"), text).unwrap();
    (0..3).for_each(|_| cells.look());
    assert_eq!(cells.figures().renewed, 0);

    std::os::unix::fs::symlink("v2", at.join("next")).unwrap();
    std::fs::rename(at.join("next"), at.join("data")).unwrap();
    (0..3).for_each(|_| cells.look());
    assert_eq!((names(&cell), cells.figures().renewed), (vec!["new.example".to_owned()], 1));
}

#[test]
fn what_nobody_holds_is_forgotten() {
    let (ca, directory, cells) = (Authority::new("root"), tempfile::tempdir().unwrap(), Cells::default());
    ca.issue(&["a.example"]).write(directory.path(), "p");
    drop(cell(&cells, directory.path()).unwrap());
    cells.look();
    assert!(cells.status().is_empty());
}

#[test]
fn what_cannot_be_a_pair_says_which_file_and_what_to_do() {
    let (ca, directory, cells) = (Authority::new("root"), tempfile::tempdir().unwrap(), Cells::default());
    let leaf = ca.issue(&["a.example"]);
    let refused = |cert: Option<&str>, key: Option<&str>| {
        for (name, content) in [("p.pem", cert), ("p.key", key)] {
            let path = directory.path().join(name);
            match content {
                Some(text) => std::fs::write(path, text).unwrap(),
                None => drop(std::fs::remove_file(path)),
            }
        }
        let error = cell(&cells, directory.path()).err().expect("is refused").to_string();
        error.replace(&directory.path().display().to_string(), "")
    };
    let (pem, key) = (leaf.pem(), leaf.key_pem());
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (cert, key, expected) in [
        (None, Some(&*key), "/p.pem: cannot be read: No such file"),
        (Some(&*pem), None, "/p.key: cannot be read: No such file"),
        (Some("none"), Some(&*key), "/p.pem: has no certificate; expected PEM"),
        (Some(broken), Some(&*key), "/p.pem: the first certificate cannot be read"),
        (Some(&pem[..pem.len() / 2]), Some(&*key), "/p.pem: is not sound PEM"),
        (Some(&*pem), Some(&*pem), "/p.key: has no private key; expected PEM"),
        (Some(&*pem), Some(&*encrypted), "/p.key: the private key is encrypted; expected it in clear"),
    ] {
        let error = refused(cert, key);
        assert!(error.starts_with(expected), "{error}");
    }
}
