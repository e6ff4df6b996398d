//! Looking at Rust as tokens: where functions begin and end, and where `unsafe` stands.
//!
//! Tokens and not a syntax tree, because the tree does not see into macros, and `unsafe` must be found there too.

use std::str::FromStr;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The lines of something, first and last, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

impl Lines {
    /// How many.
    pub fn count(self) -> usize {
        self.last.saturating_sub(self.first) + 1
    }
}

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Each function's name and lines.
    pub functions: Vec<(String, Lines)>,
    /// Each piece of unsafe code.
    pub unsafes: Vec<Lines>,
    /// Whether it begins with `#![forbid(unsafe_code)]`, alone or among others.
    pub forbids_unsafe: bool,
}

/// Assembly that needs no `unsafe` around it and is no safer for that.
const ASSEMBLY: [&str; 2] = ["global_asm", "naked_asm"];

/// Looks through a file; `None` when it is not Rust.
pub fn look(text: &str) -> Option<Found> {
    let tokens = TokenStream::from_str(text).ok()?;
    let mut found = Found {
        forbids_unsafe: forbids(&tokens),
        ..Found::default()
    };
    walk(tokens, &mut found);
    Some(found)
}

fn walk(tokens: TokenStream, found: &mut Found) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        let rest = tokens.get(index + 1..).unwrap_or_default();
        match token {
            TokenTree::Ident(word) if word == "unsafe" => {
                let first = word.span().start().line;
                found.unsafes.push(Lines {
                    first,
                    last: extent(rest).unwrap_or(first),
                });
            }
            TokenTree::Ident(word) if ASSEMBLY.iter().any(|name| word == name) => {
                // The word alone is an import; with `!` and a group it is the assembly itself.
                if let [TokenTree::Punct(bang), TokenTree::Group(code), ..] = rest
                    && bang.as_char() == '!'
                {
                    found.unsafes.push(Lines {
                        first: word.span().start().line,
                        last: code.span_close().end().line,
                    });
                }
            }
            TokenTree::Ident(word) if word == "fn" => {
                if let Some(TokenTree::Ident(name)) = rest.first()
                    && let Some(body) = body(rest)
                {
                    found.functions.push((
                        name.to_string(),
                        Lines {
                            first: word.span().start().line,
                            last: body.span_close().end().line,
                        },
                    ));
                }
            }
            TokenTree::Group(group) => walk(group.stream(), found),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// The braces that end an item, unless a semicolon ends it before.
fn body(tokens: &[TokenTree]) -> Option<&Group> {
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return Some(group),
            TokenTree::Punct(mark) if mark.as_char() == ';' => return None,
            TokenTree::Group(_)
            | TokenTree::Punct(_)
            | TokenTree::Ident(_)
            | TokenTree::Literal(_) => {}
        }
    }
    None
}

/// The last line of what `unsafe` makes unsafe: a block, function or impl; an attribute (`unsafe(no_mangle)`) is its own line.
fn extent(rest: &[TokenTree]) -> Option<usize> {
    match rest.first()? {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => None,
        TokenTree::Group(_) | TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {
            body(rest).map(|group| group.span_close().end().line)
        }
    }
}

/// Whether `#![forbid(… unsafe_code …)]` stands at the top level.
fn forbids(tokens: &TokenStream) -> bool {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    tokens.windows(3).any(|window| {
        let [TokenTree::Punct(hash), TokenTree::Punct(bang), TokenTree::Group(attribute)] = window else { return false };
        let mut inside = attribute.stream().into_iter();
        let is_forbid = matches!(inside.next(), Some(TokenTree::Ident(word)) if word == "forbid");
        let names_it = matches!(inside.next(), Some(TokenTree::Group(list)) if list.stream().into_iter().any(|token| matches!(token, TokenTree::Ident(word) if word == "unsafe_code")));
        hash.as_char() == '#' && bang.as_char() == '!' && is_forbid && names_it
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_and_declarations_are_not() {
        let found = look("fn a() {\n}\ntrait T {\n    fn b(&self);\n    fn c(f: fn(u8) -> u8) -> u8 {\n        f(1)\n    }\n}\n").unwrap();
        let measured: Vec<_> = found
            .functions
            .iter()
            .map(|(name, lines)| (name.as_str(), lines.count()))
            .collect();
        assert_eq!(measured, [("a", 2), ("c", 3)]);
    }

    #[test]
    fn unsafe_is_found_in_blocks_macros_and_attributes_but_not_in_words() {
        let text = "// unsafe\nconst S: &str = \"unsafe\";\n#[unsafe(no_mangle)]\nfn a() {\n    m!(unsafe {\n        x()\n    });\n}\nunsafe impl Send for A {}\n";
        let lines: Vec<_> = look(text)
            .unwrap()
            .unsafes
            .iter()
            .map(|lines| (lines.first, lines.count()))
            .collect();
        assert_eq!(lines, [(3, 1), (5, 3), (9, 1)]);
    }

    #[test]
    fn assembly_outside_functions_counts_as_unsafe() {
        let found = look("use core::arch::global_asm;\nglobal_asm!(\n\"nop\",\n);\n").unwrap();
        assert_eq!(found.unsafes, [Lines { first: 2, last: 4 }]);
    }

    #[test]
    fn the_attribute_is_recognised() {
        assert!(
            look("#![no_std]\n#![forbid(unsafe_code)]\n")
                .unwrap()
                .forbids_unsafe
        );
        assert!(
            look("#![forbid(missing_docs, unsafe_code)]\n")
                .unwrap()
                .forbids_unsafe
        );
        assert!(!look("#![deny(unsafe_code)]\n").unwrap().forbids_unsafe);
        assert!(!look("// #![forbid(unsafe_code)]\n").unwrap().forbids_unsafe);
    }

    #[test]
    fn what_is_no_rust_is_told() {
        assert_eq!(look("fn a( {"), None);
    }
}
