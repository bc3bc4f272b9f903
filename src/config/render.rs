//! How diagnostics look: text for people (source line, caret, remedy) and JSON for editors.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::diagnostic::{Diagnostic, Place};

impl Diagnostic {
    /// Several lines of text ending in a line feed: what, where, the source line with a caret, the remedy.
    #[must_use]
    pub fn render_text(&self) -> String {
        let mut out = String::new();
        let width = [Some(&self.place), self.also.as_ref().map(|(place, _)| place)]
            .into_iter()
            .flatten()
            .map(|place| place.line.to_string().len())
            .max()
            .unwrap_or(1);
        // Writing to a String cannot fail.
        let _ =
            writeln!(out, "{}: {}[{}]: {}", self.place, self.severity, self.code.id(), one_line(&self.cause));
        excerpt(&mut out, &self.place, width, '^');
        if let Some((place, note)) = &self.also {
            let _ = writeln!(out, "{:width$} --> {place}: {}", "", one_line(note));
            excerpt(&mut out, place, width, '-');
        }
        let _ = writeln!(out, "{:width$} = {}", "", one_line(&self.remedy));
        out
    }

    /// An object with `code`, `severity`, `file`, `line`, `col`, `start`, `end`, `cause`, `remedy`, `also`.
    #[must_use]
    pub fn render_json(&self) -> Value {
        let mut object = position(&self.place);
        if let Value::Object(map) = &mut object {
            map.insert("code".into(), self.code.id().into());
            map.insert("meaning".into(), self.code.meaning().into());
            map.insert("severity".into(), self.severity.to_string().into());
            map.insert("cause".into(), self.cause.clone().into());
            map.insert("remedy".into(), self.remedy.clone().into());
            let also = self.also.as_ref().map(|(place, note)| {
                let mut also = position(place);
                if let Value::Object(map) = &mut also {
                    map.insert("note".into(), note.clone().into());
                }
                also
            });
            map.insert("also".into(), also.unwrap_or(Value::Null));
        }
        object
    }
}

/// All of them as text, parted by empty lines.
#[must_use]
pub fn text(diagnostics: &[Diagnostic]) -> String {
    let parts: Vec<String> = diagnostics.iter().map(Diagnostic::render_text).collect();
    parts.join("\n")
}

/// All of them as one JSON array on one line.
#[must_use]
pub fn json(diagnostics: &[Diagnostic]) -> String {
    Value::Array(diagnostics.iter().map(Diagnostic::render_json).collect()).to_string()
}

fn position(place: &Place) -> Value {
    json!({
        "file": &*place.file, "line": place.line, "col": place.col,
        "start": place.span.start, "end": place.span.end,
    })
}

fn excerpt(out: &mut String, place: &Place, width: usize, mark: char) {
    if place.line == 0 {
        return;
    }
    let _ = writeln!(out, "{:>width$} | {}", place.line, place.excerpt);
    // Tabs are repeated so that the caret stands under its text whatever their width is.
    let lead: String =
        place.excerpt.chars().take(place.indent).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let _ = writeln!(out, "{:width$} | {lead}{}", "", mark.to_string().repeat(place.width));
}

/// Written text may hold line breaks and terminal escapes; a message stays one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::diagnostic::{Code, Diagnostic, Place};

    #[test]
    fn carets_stand_under_tabs_and_wide_text() {
        let text = "x\n\tfoo = bar\n";
        let diagnostic = Diagnostic {
            code: Code::UnknownKey,
            severity: Code::UnknownKey.severity(),
            place: Place::within("f.toml", text, 3..6),
            also: None,
            cause: "c\x1b".into(),
            remedy: "r".into(),
        };
        assert_eq!(
            diagnostic.render_text(),
            "f.toml:2:2: error[E003]: c\u{fffd}\n2 | \tfoo = bar\n  | \t^^^\n  = r\n"
        );
        assert_eq!(diagnostic.render_json()["start"], 3);
    }
}
