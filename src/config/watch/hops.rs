//! What a path leads through: each symlink on the way, the directories that hold them, and the file.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// As many as Linux follows.
const MAX_LINKS: usize = 40;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hops {
    /// To be watched: the directories in which a change can lead elsewhere, and the file itself, whose
    /// own events still come where those of its directory do not (a bind mount).
    pub(super) watched: BTreeSet<PathBuf>,
    /// The paths whose events matter.
    pub(super) names: BTreeSet<PathBuf>,
}

impl Hops {
    /// `path` is absolute. Where something on the way does not exist, the way ends with the directory in
    /// which it would.
    pub(super) fn of(path: &Path) -> Self {
        let mut hops = Self::default();
        let mut at = PathBuf::from("/");
        let mut rest = parts(path);
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let metadata = std::fs::symlink_metadata(&next);
            let link = metadata.as_ref().is_ok_and(|m| m.is_symlink()).then(|| std::fs::read_link(&next));
            if metadata.is_err() || link.is_some() || rest.is_empty() {
                hops.mind(&at, &next);
            }
            match link {
                Some(Ok(target)) if links < MAX_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    for part in parts(&target).into_iter().rev() {
                        rest.push_front(part);
                    }
                }
                // No way leads on from here, until this changes.
                Some(_) => return hops,
                None if metadata.is_err() => return hops,
                None => at = next,
            }
        }
        hops.watched.insert(at);
        hops
    }

    fn mind(&mut self, directory: &Path, name: &Path) {
        self.watched.insert(directory.to_owned());
        self.names.insert(directory.to_owned());
        self.names.insert(name.to_owned());
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let named = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_on_the_way_is_watched() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("..v1")).unwrap();
        std::fs::write(root.join("..v1/p.yaml"), "").unwrap();
        symlink("..v1", root.join("..data")).unwrap();
        symlink("..data/p.yaml", root.join("p.yaml")).unwrap();
        let hops = Hops::of(&root.join("p.yaml"));
        let paths = |names: &[&str]| names.iter().map(|name| root.join(name)).collect::<BTreeSet<_>>();
        let mut names = paths(&["p.yaml", "..data", "..v1", "..v1/p.yaml"]);
        names.insert(root.clone());
        assert_eq!(hops.names, names);
        let mut watched = paths(&["..v1", "..v1/p.yaml"]);
        watched.insert(root.clone());
        assert_eq!(hops.watched, watched);
    }

    #[test]
    fn a_way_that_ends_is_watched_where_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let hops = Hops::of(&root.join("none/p.yaml"));
        assert_eq!(hops.watched, BTreeSet::from([root.clone()]));
        assert_eq!(hops.names, BTreeSet::from([root.clone(), root.join("none")]));
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert!(Hops::of(&root.join("a")).names.contains(&root.join("b")));
    }
}
