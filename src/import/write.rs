//! How lyre.toml is written: comments, texts, blocks that cannot be used, the summary.

use super::error::Position;
use super::findings::{Class, Finding, one_line};
use std::path::Path;

/// Comments are broken into lines of this width.
const WIDTH: usize = 118;

/// A place, without the directory that all places share.
pub(super) fn place(source: &Path, at: &Position) -> String {
    let directory = source.parent().filter(|directory| !directory.as_os_str().is_empty());
    let shown = at.to_string();
    let inside = directory.and_then(|directory| shown.strip_prefix(&format!("{}/", directory.display())));
    inside.unwrap_or(&shown).to_owned()
}

/// Every statement under what became of it.
pub(super) fn summary(out: &mut String, source: &Path, findings: &[Finding]) {
    out.push('\n');
    let classes = [Class::Mapped, Class::Remark, Class::Ignored, Class::Refused, Class::Unknown];
    let of = |class: Class| findings.iter().filter(move |finding| finding.class == class);
    let counts: Vec<String> = classes.iter().map(|class| format!("{} {}", of(*class).count(), short(*class))).collect();
    comment(out, &format!("Summary: {}.", counts.join(", ")));
    for class in classes {
        if of(class).next().is_some() {
            out.push_str(&format!("#\n# {}:\n", class.heading()));
        }
        for finding in of(class) {
            let text = format!("{}: {}: {}", place(source, &finding.at), finding.what, finding.why);
            comment_indented(out, &text, "  ");
        }
    }
}

/// Lines of the file, or comments with the reason.
pub(super) fn block(out: &mut String, lines: &[String], problem: Option<&str>) {
    if let Some(problem) = problem {
        comment(out, &format!("Not used: {problem}."));
    }
    for line in lines {
        let mark = if problem.is_some() { "# " } else { "" };
        out.push_str(format!("{mark}{line}").trim_end());
        out.push('\n');
    }
}

pub(super) fn comment(out: &mut String, text: &str) {
    comment_indented(out, text, "");
}

/// Words that do not fit go to further lines, two deeper.
fn comment_indented(out: &mut String, text: &str, indent: &str) {
    let mut line = format!("# {indent}");
    let mut is_first = true;
    for word in one_line(text).split(' ') {
        if !is_first && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            line = format!("\n# {indent}  ");
            is_first = true;
        }
        if !is_first {
            line.push(' ');
        }
        line.push_str(word);
        is_first = false;
    }
    out.push_str(line.trim_end_matches(' '));
    out.push('\n');
}

fn short(class: Class) -> &'static str {
    match class {
        Class::Mapped => "mapped",
        Class::Remark => "mapped with a remark",
        Class::Ignored => "ignored",
        Class::Refused => "refused",
        Class::Unknown => "not understood",
    }
}

/// A basic string of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `["a", "b"]`, one a line where there are many.
pub(super) fn list(key: &str, values: &[String]) -> Vec<String> {
    let written: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    if written.len() <= 3 {
        return vec![format!("{key} = [{}]", written.join(", "))];
    }
    let inner = written.iter().map(|value| format!("    {value},"));
    std::iter::once(format!("{key} = [")).chain(inner).chain(["]".to_owned()]).collect()
}
