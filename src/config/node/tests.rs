use super::*;

fn tree(text: &str) -> Node {
    let mut report = Report::new("t.yaml");
    read(text, &mut report).unwrap_or_else(|| panic!("{text:?} is YAML"))
}

#[test]
fn every_part_knows_its_place() {
    let text = "agents:\n  bot:\n    versions:\n      1.10: { endpoints: [a, \"b\"] }\n    weight: 5\n    none:\n";
    let cases = [
        ("agents", 1, 1),
        ("agents.bot", 2, 3),
        ("agents.bot.versions.1.10", 4, 7),
        ("agents.bot.versions.1.10.endpoints", 4, 15),
        ("agents.bot.versions.1.10.endpoints[1]", 4, 30),
        ("agents.bot.weight", 5, 13),
        ("agents.bot.none", 6, 5),
        ("agents.bot.versions.1.10.endpoints[7]", 4, 15),
        ("agents.nobody.x", 1, 1),
        ("agents.bot.weight.x", 5, 13),
    ];
    let tree = tree(text);
    for (path, line, column) in cases {
        assert_eq!(tree.find(path).place, Place { line, column }, "{path}");
    }
}

#[test]
fn an_alias_stands_where_its_text_is() {
    let tree = tree("a: &x { b: 1 }\nc: *x\nd: [*x]\n");
    assert_eq!(tree.find("c.b").place, Place { line: 1, column: 12 });
    assert_eq!(tree.find("d[0].b").node.map(Node::text), Some("1"));
}

#[test]
fn scalars_keep_their_spelling() {
    let tree = tree("a: 1.10\nb: 0x10\nc: true\nd: \"1.50\"\n1.20: x\n");
    for (path, text) in [("a", "1.10"), ("b", "0x10"), ("c", "true"), ("d", "1.50"), ("1.20", "x")] {
        assert_eq!(tree.find(path).node.map(Node::text), Some(text), "{path}");
    }
}

#[test]
fn a_removed_part_damages_what_holds_it() {
    let mut tree = tree("a: { b: [1, 2] }\nc: 3\n");
    let Kind::Map(entries) = &mut tree.kind else { panic!("a map") };
    let Kind::Map(inner) = &mut entries[0].value.kind else { panic!("a map") };
    let Kind::Seq(items) = &mut inner[0].value.kind else { panic!("a list") };
    items[1].removed = true;
    for (path, damaged) in [("", true), ("a", true), ("a.b", true), ("a.b[0]", false), ("a.b[1]", true), ("c", false)] {
        assert_eq!(tree.find(path).damaged, damaged, "{path}");
    }
}
