//! What is wrong with a configuration, said so that it can be mended: code, place, cause, remedy.
//! Findings hold offsets while loading; a [`Diagnostic`] holds all that is shown and needs no text beside it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::Source;
use crate::limits;

/// How bad a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but somebody should look.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

macro_rules! codes {
    ($($name:ident $id:literal $meaning:literal;)+) => {
        /// Every kind of diagnostic; the numbers never change their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $meaning] $name,)+ }

        impl Code {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The number as shown and searched for: `E003`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// One line on what the code means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }
        }
    };
}

codes! {
    Unreadable "E001" "A configuration file cannot be read.";
    Syntax "E002" "The text is not TOML.";
    UnknownKey "E003" "No option has this name.";
    WrongType "E004" "The value has another type than the option.";
    DuplicateKey "E005" "An option is set twice.";
    Missing "E006" "An option that must be set is not.";
    BadDuration "E007" "Not a duration such as \"30s\".";
    BadSize "E008" "Not a size such as \"10MiB\".";
    OutOfRange "E009" "A number, duration or size outside its bounds.";
    BadChoice "E010" "Not one of the words that the option takes.";
    BadAddress "E011" "Not a listening address such as \":443\".";
    BadNetwork "E012" "Not a network such as \"10.0.0.0/8\".";
    BadHost "E013" "Not a host that a site can have.";
    BadUpstream "E014" "Not an upstream such as \"127.0.0.1:8000\".";
    BadPath "E015" "Not a path pattern such as \"/static/*\".";
    BadFile "E016" "Not a file path.";
    BadWorkers "E017" "Not a worker count or CPU list.";
    BadInclude "E018" "An include that names nothing usable.";
    DuplicateHost "E019" "Two sites have the same host.";
    DuplicateListener "E020" "Two listeners have the same address.";
    ShadowedRoute "E021" "A route can never be reached.";
    Contradiction "E022" "Two options cannot both hold.";
    UnknownSite "E023" "A site is named that does not exist.";
    NothingToServe "E024" "There is no site or no listener.";
    OwnListener "E025" "An upstream is a listener of this proxy.";
    CertificateUnreadable "E026" "A certificate or key cannot be read.";
    CertificateRefused "E027" "A certificate and its key cannot be used together.";
    CertificateTime "E028" "A certificate is expired or not yet valid.";
    CertificateHost "E029" "A certificate does not cover the host of its site.";
    AddressInUse "E030" "Another process listens on this address.";
    AddressRefused "E031" "This address cannot be listened on.";
    BadSecret "E032" "Not the place of a secret, such as \"file:PATH\" or \"env:NAME\".";
    BadUrl "E033" "Not a URL such as \"https://…\".";
    BadName "E034" "Not a name that can stand here.";
    Challenge "E035" "Control over a name cannot be shown to an authority.";
    SecretUnreadable "E036" "A secret cannot be read, or is not what its option takes.";
    OrderFails "E037" "An order of a certificate would fail.";
    CertificateSoon "W001" "A certificate expires soon.";
    KeyExposed "W002" "A key file can be read by other users.";
    IncludesNothing "W003" "An include pattern matches no file.";
    UpstreamTwice "W004" "An upstream is listed twice.";
    NotPublic "W005" "A name for which no public authority gives certificates.";
    ProgramAbsent "W006" "A program cannot be run.";
    AuthorityUnfit "W007" "An authority does not answer, or not as the configuration needs it.";
    NoAddress "W008" "A name by which no authority finds this machine.";
    OrderDoubtful "W009" "An order of a certificate may fail.";
}

impl Code {
    /// Whether a configuration with it cannot be used.
    #[must_use]
    pub fn severity(self) -> Severity {
        if self.id().starts_with('W') { Severity::Warning } else { Severity::Error }
    }
}

/// A range of bytes in one of the sources of a load; small, so that every site can keep several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spot {
    /// Index into the sources of the load.
    pub file: u32,
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

impl Spot {
    /// A range in source `file`; sources are shorter than 4 GiB by [`limits::CONFIG_BYTES`].
    #[must_use]
    pub fn new(file: u32, range: &Range<usize>) -> Self {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { file, start: offset(range.start), end: offset(range.end) }
    }

    /// The whole of source `file`, when no line of it is to blame.
    #[must_use]
    pub const fn file(file: u32) -> Self {
        Self { file, start: 0, end: 0 }
    }

    /// Where that is in words for a reader.
    #[must_use]
    pub fn place(self, sources: &[Source]) -> Place {
        let source = usize::try_from(self.file).ok().and_then(|i| sources.get(i));
        let (name, text) = source.map_or(("", ""), |s| (s.name.as_str(), s.text.as_str()));
        if self.start == self.end && self.start == 0 {
            return Place::whole(name);
        }
        Place::within(name, text, self.start as usize..self.end as usize)
    }
}

/// A place in a text as a reader finds it, with the source line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the file.
    pub file: Arc<str>,
    /// Line, from 1; 0 if no line is to blame.
    pub line: u32,
    /// Column in characters, from 1; 0 if no line is to blame.
    pub col: u32,
    /// Bytes of the whole text.
    pub span: Range<usize>,
    /// The source line, or a window of it when it is long.
    pub excerpt: String,
    /// Characters of the excerpt before the span.
    pub indent: usize,
    /// Characters of the span on this line, at least 1.
    pub width: usize,
}

impl Place {
    /// The file as a whole.
    #[must_use]
    pub fn whole(file: &str) -> Self {
        Self { file: file.into(), line: 0, col: 0, span: 0..0, excerpt: String::new(), indent: 0, width: 1 }
    }

    /// `span` of `text`; offsets beyond it or inside a character are moved back.
    #[must_use]
    pub fn within(file: &str, text: &str, span: Range<usize>) -> Self {
        let floor = |at: usize| {
            let at = at.min(text.len());
            (0..=at).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
        };
        let (start, end) = (floor(span.start), floor(span.end.max(span.start)));
        let before = text.get(..start).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_text = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or("");
        let lead =
            text.get(line_start..start).unwrap_or("").chars().filter(|c| *c != BYTE_ORDER_MARK).count();
        // Between the two bytes of a CRLF there is no column of its own.
        let lead = lead.min(line_text.chars().filter(|c| *c != BYTE_ORDER_MARK).count());
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let shown = line_text.get(start.saturating_sub(line_start)..).unwrap_or("");
        let marked = shown.char_indices().take_while(|(at, _)| start + at < end).count().max(1);

        let skipped = lead.saturating_sub(EXCERPT_LEAD);
        let skipped = if line_text.chars().nth(EXCERPT_CHARS).is_none() { 0 } else { skipped };
        let visible = line_text.chars().filter(|c| *c != BYTE_ORDER_MARK).skip(skipped).take(EXCERPT_CHARS);
        Self {
            file: file.into(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            col: u32::try_from(lead + 1).unwrap_or(u32::MAX),
            span: start..end,
            excerpt: visible.map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect(),
            indent: lead - skipped,
            width: marked.min((EXCERPT_CHARS + skipped).saturating_sub(lead).max(1)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return f.write_str(&self.file);
        }
        write!(f, "{}:{}:{}", self.file, self.line, self.col)
    }
}

/// Characters of a source line that are shown.
const EXCERPT_CHARS: usize = 160;
/// Of these, how many may stand before the marked ones on a long line.
const EXCERPT_LEAD: usize = 40;
/// An editor's mark at the start of a file is no column.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its kind.
    pub code: Code,
    /// Error or warning.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// The other place of a conflict, and what stands there.
    pub also: Option<(Place, String)>,
    /// What is wrong, with the offending text.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// A diagnostic whose places are still offsets.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub code: Code,
    pub spot: Spot,
    pub also: Option<(Spot, String)>,
    pub cause: String,
    pub remedy: String,
}

impl Finding {
    pub fn diagnostic(self, sources: &[Source]) -> Diagnostic {
        Diagnostic {
            code: self.code,
            severity: self.code.severity(),
            place: self.spot.place(sources),
            also: self.also.map(|(spot, note)| (spot.place(sources), note)),
            cause: self.cause,
            remedy: self.remedy,
        }
    }
}

/// All findings of one load.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    /// What must not be shown, since it may be a secret.
    hidden: Vec<Spot>,
    /// Some text could not be read, so that what is absent may only be unread.
    pub partial: bool,
}

impl Findings {
    /// Notes one thing to mend at one place.
    pub fn note(&mut self, code: Code, spot: Spot, cause: impl Into<String>, remedy: impl Into<String>) {
        self.push(Finding { code, spot, also: None, cause: cause.into(), remedy: remedy.into() });
    }

    /// Notes a conflict of two places.
    pub fn conflict(
        &mut self,
        code: Code,
        spot: Spot,
        (other, note): (Spot, &str),
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let also = Some((other, note.to_owned()));
        self.push(Finding { code, spot, also, cause: cause.into(), remedy: remedy.into() });
    }

    fn push(&mut self, finding: Finding) {
        if self.list.len() < limits::CONFIG_DIAGNOSTICS {
            self.list.push(finding);
        }
    }

    /// Hides a value in every line that is shown.
    pub fn hide(&mut self, spot: Spot) {
        self.hidden.push(spot);
    }

    /// Whether anything of this kind was noted.
    pub fn has(&self, code: Code) -> bool {
        self.list.iter().any(|f| f.code == code)
    }

    /// Whether any error was noted.
    pub fn any_error(&self) -> bool {
        self.list.iter().any(|f| f.code.severity() == Severity::Error)
    }

    /// Everything found, in file order; after a syntax error nothing is said of what is absent.
    pub fn diagnostics(mut self, sources: &[Source]) -> Vec<Diagnostic> {
        if self.partial {
            self.list.retain(|f| {
                !matches!(
                    f.code,
                    Code::Missing | Code::NothingToServe | Code::UnknownSite | Code::Contradiction
                )
            });
        }
        self.list.sort_by_key(|f| (f.spot.file, f.spot.start));
        if self.hidden.is_empty() {
            return self.list.into_iter().map(|f| f.diagnostic(sources)).collect();
        }
        let sources: Vec<Source> =
            (0..).zip(sources).map(|(file, source)| self.without_hidden(file, source)).collect();
        let sources = sources.as_slice();
        self.list.into_iter().map(|f| f.diagnostic(sources)).collect()
    }

    /// A text of the same length whose hidden values are stars, so that no place moves.
    fn without_hidden(&self, file: u32, source: &Source) -> Source {
        let hidden = self.hidden.iter().filter(|spot| spot.file == file);
        let ranges: Vec<Range<usize>> = hidden.map(|spot| spot.start as usize..spot.end as usize).collect();
        let star = |(at, c): (usize, char)| {
            let covered = c.is_ascii_alphanumeric() && ranges.iter().any(|range| range.contains(&at));
            if covered { '*' } else { c }
        };
        Source { name: source.name.clone(), text: source.text.char_indices().map(star).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Place};

    #[test]
    fn codes_are_in_order_and_unique() {
        let mut ids: Vec<_> = Code::ALL.iter().map(|c| c.id()).collect();
        let written = ids.clone();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids, written);
        assert!(Code::ALL.iter().all(|c| c.meaning().ends_with('.')));
    }

    #[test]
    fn places_count_characters_from_one() {
        let text = "a = 1\nb = \"é\" # c\n";
        let at = text.find('#').unwrap();
        let place = Place::within("f", text, at..at + 1);
        assert_eq!((place.line, place.col, place.width), (2, 9, 1));
        assert_eq!(place.excerpt, "b = \"é\" # c");
    }

    #[test]
    fn places_stay_in_bounds_for_any_span() {
        let text = "\u{feff}é\t\r\nx\n\n";
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let place = Place::within("f", text, start..end);
                assert!(place.width >= 1);
                assert!(place.indent <= place.excerpt.chars().count());
            }
        }
    }

    #[test]
    fn long_lines_are_shown_by_a_window() {
        let text = format!("{}!{}", "a".repeat(500), "b".repeat(500));
        let place = Place::within("f", &text, 500..501);
        assert_eq!(place.col, 501);
        assert_eq!(place.excerpt.chars().count(), 160);
        assert_eq!(place.excerpt.chars().nth(place.indent), Some('!'));
    }
}
