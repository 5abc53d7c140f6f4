//! Against a reader that makes a tree of the text.

use std::cell::RefCell;

use proptest::prelude::*;
use serde_json::Value as Tree;

use super::*;

/// Notes everything that it is told; a place is how deep it is.
#[derive(Default)]
struct Notes(RefCell<Vec<String>>);

impl Notes {
    fn note(&self, what: impl std::fmt::Debug) {
        self.0.borrow_mut().push(format!("{what:?}"));
    }

    /// What a scanner tells of a value at `depth`.
    fn walk(&self, depth: usize, tree: &Tree) {
        let follows = depth < DEPTH;
        match tree {
            Tree::Null => self.note((depth, Value::Null)),
            Tree::Bool(yes) => self.note((depth, Value::Bool(*yes))),
            Tree::Number(number) => self.note((depth, Value::Number(number.as_u64()))),
            Tree::String(text) => self.note((depth, Value::Text(&raw(text)))),
            Tree::Array(elements) => {
                self.note((depth, Value::Array));
                elements.iter().filter(|_| follows).for_each(|element| self.walk(depth + 1, element));
            }
            Tree::Object(members) => {
                self.note((depth, Value::Object));
                for (key, member) in members.iter().filter(|_| follows) {
                    self.note((depth, "key", raw(key)));
                    self.walk(depth + 1, member);
                }
            }
        }
        if follows && (tree.is_array() || tree.is_object()) {
            self.note((depth, "closed"));
        }
    }
}

/// As written, and as much of it as is told.
fn raw(text: &str) -> Vec<u8> {
    let written = serde_json::to_vec(text).expect("a text can be written");
    written[1..written.len() - 1].iter().copied().take(TEXT_BYTES).collect()
}

impl Visitor for Notes {
    type Place = usize;

    fn root(&self) -> usize {
        0
    }
    fn member(&self, of: usize, key: &[u8]) -> Option<usize> {
        self.note((of, "key", key));
        Some(of + 1)
    }
    fn element(&self, of: usize) -> Option<usize> {
        Some(of + 1)
    }
    fn value(&mut self, at: usize, value: Value<'_>) {
        self.note((at, value));
    }
    fn close(&mut self, at: usize) {
        self.note((at, "closed"));
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::from),
        any::<u64>().prop_map(Tree::from),
        any::<i64>().prop_map(Tree::from),
        (-1e9..1e9).prop_map(Tree::from),
        "[a-z\"\\\\{}\\[\\]:,\u{e4}\u{1f682}\n]{0,12}".prop_map(Tree::from),
        "[a-z\\\\]{120,140}".prop_map(Tree::from),
    ];
    leaf.prop_recursive(12, 60, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::from),
            prop::collection::btree_map("[a-z\"\\\\]{0,4}", inner, 0..4)
                .prop_map(|members| Tree::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn all_of_a_document_is_told_however_it_is_cut(
        tree in tree(),
        pretty in any::<bool>(),
        piece in 1usize..9,
    ) {
        let text = if pretty { serde_json::to_vec_pretty(&tree) } else { serde_json::to_vec(&tree) };
        let text = text.expect("a tree can be written");
        let expected = Notes::default();
        expected.walk(0, &tree);
        for size in [piece, text.len()] {
            let (mut scanner, mut told) = (Scanner::new(), Notes::default());
            for bytes in text.chunks(size) {
                prop_assert!(!scanner.is_done() || tree.is_number() || tree.is_null() || tree.is_boolean());
                scanner.read(bytes, &mut told);
            }
            prop_assert!(scanner.is_done());
            // A bare number, which ends with the text, is not told.
            scanner.read(b" ", &mut told);
            prop_assert_eq!(&*told.0.borrow(), &*expected.0.borrow(), "by {}", size);
        }
    }
}

#[test]
fn nothing_is_told_of_what_nobody_asked_for() {
    struct OnlyB(Vec<u64>);
    impl Visitor for OnlyB {
        type Place = bool;
        fn root(&self) -> bool {
            false
        }
        fn member(&self, _: bool, key: &[u8]) -> Option<bool> {
            (key == b"b").then_some(true)
        }
        fn element(&self, _: bool) -> Option<bool> {
            None
        }
        fn value(&mut self, _: bool, value: Value<'_>) {
            if let Value::Number(Some(number)) = value {
                self.0.push(number);
            }
        }
        fn close(&mut self, _: bool) {}
    }
    let text = br#"{"a":{"b":1,"x":["}\"]",{"b":2}]},"c":"b","d":[3,{"b":4}],"b":5,"e":6,"\u0062":7,"b" : 8}"#;
    for size in 1..=text.len() {
        let (mut scanner, mut seen) = (Scanner::new(), OnlyB(Vec::new()));
        text.chunks(size).for_each(|bytes| scanner.read(bytes, &mut seen));
        assert_eq!(seen.0, [5, 8], "by {size}");
    }
}
