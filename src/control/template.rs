//! `{{name}}` in a query or an argument, filled in with what a deployment is of.

/// Says what is wrong with a template, if anything is. `known` are the names that will have values.
pub fn check(text: &str, known: &[&str]) -> Result<(), String> {
    let expected = || known.iter().map(|name| format!("{{{{{name}}}}}")).collect::<Vec<_>>().join(", ");
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let (name, after) =
            after.split_once("}}").ok_or_else(|| format!("`{{{{` without `}}}}`; expected {}", expected()))?;
        if !known.contains(&name.trim()) {
            return Err(format!("`{{{{{name}}}}}` is not known here; expected {}", expected()));
        }
        rest = after;
    }
    Ok(())
}

/// The text with each name's value in its place. What [`check`] refuses stays as it is.
pub fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled += before;
        let value = after.split_once("}}").and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name.trim())?;
            Some((value, after))
        });
        match value {
            Some((value, after)) => {
                filled += value;
                rest = after;
            }
            None => {
                filled += "{{";
                rest = after;
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_values_wherever_they_stand() {
        let values = [("agent", "bot"), ("version", "2.0.0")];
        let query = r#"sum(rate(x{agent="{{agent}}",version="{{ version }}"}[5m]))/{{agent}}"#;
        assert_eq!(fill(query, &values), r#"sum(rate(x{agent="bot",version="2.0.0"}[5m]))/bot"#);
        assert_eq!(fill("up == 1 {}", &values), "up == 1 {}");
        assert_eq!(fill("{{other}} {{agent}} {{", &values), "{{other}} bot {{");
    }

    #[test]
    fn a_value_is_not_filled_in_again() {
        assert_eq!(fill("{{a}}", &[("a", "{{b}}"), ("b", "x")]), "{{b}}");
    }

    #[test]
    fn what_is_not_known_is_said_with_what_is() {
        let known = ["agent", "version"];
        assert_eq!(check("{{agent}} {{ version }} {} }}", &known), Ok(()));
        assert_eq!(
            check("{{agnt}}", &known),
            Err("`{{agnt}}` is not known here; expected {{agent}}, {{version}}".into())
        );
        assert_eq!(check("{{agent", &known), Err("`{{` without `}}`; expected {{agent}}, {{version}}".into()));
    }
}
