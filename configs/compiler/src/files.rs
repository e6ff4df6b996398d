//! The files a guest names: fetched once each, and judged.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::diagnostic::Diagnostic;
use crate::environment::{Environment, FileKind, LoadError, MAX_FILE, Seeds, USUAL_DTB};
use crate::hardware::Hardware;
use crate::kernel::{self, Format, Kernel};
use crate::raw::{Field, RawGuest, RawMachine};
use crate::suggest;
use crate::summary::size;
use crate::symbols::Symbols;

type Answer = Result<Rc<Vec<u8>>, LoadError>;

/// The environment's files, each loaded when first asked for.
pub(crate) struct Files<'e> {
    environment: &'e dyn Environment,
    loaded: BTreeMap<(FileKind, String), Answer>,
    /// Kernels that were found good, by name and whether they are raw: guests share them, unpacked once.
    kernels: BTreeMap<(String, Option<Format>), Kernel>,
}

impl<'e> Files<'e> {
    pub(crate) fn new(environment: &'e dyn Environment) -> Self {
        Self {
            environment,
            loaded: BTreeMap::new(),
            kernels: BTreeMap::new(),
        }
    }

    /// A guest's kernel, unpacked. `memory` is the guest's, if that is settled: no kernel unpacks to more.
    pub(crate) fn kernel(
        &mut self,
        guest: &RawGuest,
        memory: Option<u64>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Kernel> {
        let name = guest.kernel.as_ref()?;
        let stated = match guest.format.as_ref().map(|format| format.value.as_str()) {
            None if self.environment.is_firmware(&name.value) => Some(Format::Firmware),
            None => None,
            Some("raw") => Some(Format::Raw),
            Some("firmware") => Some(Format::Firmware),
            Some(_) => {
                found.extend(guest.format.as_ref().map(unknown_format));
                return None;
            }
        };
        let bytes = self.load(FileKind::Kernel, name, found)?;
        let limit = memory.unwrap_or(MAX_FILE).min(MAX_FILE);
        let key = (name.value.clone(), stated);
        // One that was unpacked for a larger guest may be too large for this one: it is told anew, in its own words.
        if let Some(kernel) = self.kernels.get(&key)
            && u64::try_from(kernel.bytes.len()).is_ok_and(|length| length <= limit)
        {
            return Some(kernel.clone());
        }
        let judged = match stated {
            Some(Format::Raw) => kernel::raw(&bytes),
            Some(Format::Firmware) => kernel::firmware(&bytes),
            Some(Format::Image | Format::Elf) | None => kernel::judge(&bytes, limit),
        };
        match judged {
            Ok(kernel) => {
                self.kernels.insert(key, kernel.clone());
                Some(kernel)
            }
            Err(why) => {
                let diagnostic =
                    Diagnostic::new(format!("`{}` is not a kernel that boots here", name.value));
                found.push(
                    diagnostic
                        .at(name.span.clone(), why.to_string())
                        .help(why.help()),
                );
                None
            }
        }
    }

    /// The random bytes for a guest.
    pub(crate) fn seeds(&self, guest: &RawGuest) -> Option<Seeds> {
        self.environment.seeds(&guest.name.as_ref()?.value)
    }

    /// What a guest adds to its device tree.
    pub(crate) fn overlay(
        &mut self,
        name: &Field<String>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Rc<Vec<u8>>> {
        self.load(FileKind::Overlay, name, found)
    }

    /// What is on a disk: whole sectors, the last one filled up with zeros.
    pub(crate) fn image(
        &mut self,
        name: &Field<String>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Rc<Vec<u8>>> {
        let bytes = self.load(FileKind::Image, name, found)?;
        let sector = usize::try_from(configs_plan::SECTOR).ok()?;
        if bytes.is_empty() {
            let diagnostic = Diagnostic::new(format!("the image `{}` is empty", name.value));
            let help = "name a file with something in it; a disk that is empty at first has a `size` and no `image`";
            let label = "no byte is in it";
            found.push(diagnostic.at(name.span.clone(), label).help(help));
            return None;
        }
        if bytes.len().is_multiple_of(sector) {
            return Some(bytes);
        }
        let mut whole = bytes.to_vec();
        whole.resize(bytes.len().next_multiple_of(sector), 0);
        Some(Rc::new(whole))
    }

    /// The names of a kernel's addresses.
    pub(crate) fn symbols(
        &mut self,
        name: &Field<String>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Rc<Symbols>> {
        let bytes = self.load(FileKind::Symbols, name, found)?;
        let symbols = Symbols::read(&bytes).map(Rc::new);
        if symbols.is_none() {
            let diagnostic = Diagnostic::new(format!("`{}` has no symbols", name.value));
            let help = "name the kernel as an ELF file that is not stripped (Linux' `vmlinux`), or its `System.map`";
            found.push(
                diagnostic
                    .at(name.span.clone(), "no function is named in it")
                    .help(help),
            );
        }
        symbols
    }

    /// The machine, where somebody is given a part of it or the file names it. `Err`: it is not known, which is reported.
    pub(crate) fn hardware(
        &mut self,
        machine: &RawMachine,
        guests: &[RawGuest],
        found: &mut Vec<Diagnostic>,
    ) -> Result<Option<Hardware>, ()> {
        let asks = |guest: &RawGuest| {
            let list = guest.devices.as_ref()?;
            (!list.value.is_empty()).then(|| list.span.clone())
        };
        let name = match (&machine.dtb, guests.iter().find_map(asks)) {
            (Some(named), _) => named.clone(),
            (None, None) => return Ok(None),
            (None, Some(span)) => {
                let usual = USUAL_DTB.to_owned();
                if !self.environment.builtins(FileKind::Dtb).contains(&usual) {
                    let diagnostic =
                        Diagnostic::new("it is not known which devices the machine has");
                    let diagnostic = diagnostic.at(span, "asked for here");
                    let help = "name the machine's device tree:\n\n[machine]\ndtb = \"board.dtb\"";
                    found.push(diagnostic.help(help));
                    return Err(());
                }
                Field { value: usual, span }
            }
        };
        let bytes = self.load(FileKind::Dtb, &name, found).ok_or(())?;
        let read = Hardware::read(&bytes).map_err(|why| {
            let title = format!("`{}` is not the device tree of a machine", name.value);
            let diagnostic = Diagnostic::new(title).at(name.span.clone(), why);
            let help = "name a compiled device tree: of a machine that runs Linux it is the file `/sys/firmware/fdt`";
            found.push(diagnostic.help(help));
        })?;
        Ok(Some(read))
    }

    /// An initial RAM disk: any bytes, but some.
    pub(crate) fn initrd(
        &mut self,
        name: &Field<String>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Rc<Vec<u8>>> {
        let bytes = self.load(FileKind::Initrd, name, found)?;
        if bytes.is_empty() {
            let diagnostic = Diagnostic::new(format!("the initrd `{}` is empty", name.value));
            found.push(
                diagnostic
                    .at(name.span.clone(), "no byte is in it")
                    .help("build it again, or leave `initrd` out"),
            );
            return None;
        }
        Some(bytes)
    }

    fn load(
        &mut self,
        kind: FileKind,
        name: &Field<String>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Rc<Vec<u8>>> {
        if name.value.is_empty() {
            let diagnostic =
                Diagnostic::new(format!("`{kind}` names no file")).at(name.span.clone(), "empty");
            found.push(diagnostic.help(self.what_there_is(kind)));
            return None;
        }
        let builtins = self.environment.builtins(kind);
        // A built-in file may be long in the making: not for a config that is refused anyway.
        if builtins.contains(&name.value) && !found.is_empty() {
            return None;
        }
        let environment = self.environment;
        let load = || environment.load(kind, &name.value).map(Rc::new);
        match self
            .loaded
            .entry((kind, name.value.clone()))
            .or_insert_with(load)
        {
            Ok(bytes) => Some(Rc::clone(bytes)),
            Err(error) => {
                let error = error.clone();
                found.push(self.failed(kind, name, &error));
                None
            }
        }
    }

    fn failed(&self, kind: FileKind, name: &Field<String>, error: &LoadError) -> Diagnostic {
        let here = || name.span.clone();
        let (word, noun) = (&name.value, kind.noun());
        match error {
            LoadError::NotFound(path) => {
                let diagnostic = Diagnostic::new(format!("there is no {noun} `{word}`"));
                let diagnostic = diagnostic.at(
                    here(),
                    format!("neither built in nor a file `{}`", path.display()),
                );
                let builtins = self.environment.builtins(kind);
                match suggest::nearest(word, builtins.iter().map(String::as_str)) {
                    Some(near) => diagnostic.fix(
                        format!("did you mean `{near}`?"),
                        here(),
                        format!("\"{near}\""),
                    ),
                    None => diagnostic.help(self.what_there_is(kind)),
                }
            }
            LoadError::Directory(path) => {
                Diagnostic::new(format!("the {noun} `{word}` is a directory"))
                    .at(here(), format!("`{}`", path.display()))
                    .help("name the file in it")
            }
            LoadError::Special(path) => {
                Diagnostic::new(format!("the {noun} `{word}` is not a regular file"))
                    .at(
                        here(),
                        format!("`{}` is a device, a pipe or a socket", path.display()),
                    )
                    .help("name a regular file")
            }
            LoadError::TooLarge { path, size: bytes } => {
                Diagnostic::new(format!("the {noun} `{word}` is too large"))
                    .at(here(), format!("`{}` has {}", path.display(), size(*bytes)))
                    .help(match kind {
                        FileKind::Image => format!(
                            "an image lies in the machine's memory and may have {} at most; give the machine a disk of \
                             its own, `cargo xtask run --disk FILE`, and write `machine = 0`",
                            size(crate::MAX_FILE)
                        ),
                        FileKind::Kernel
                        | FileKind::Initrd
                        | FileKind::Overlay
                        | FileKind::Dtb
                        | FileKind::Symbols => format!(
                            "no {noun} may have more than {}; was a disk image meant?",
                            size(crate::MAX_FILE)
                        ),
                    })
            }
            LoadError::Unreadable { path, reason } => {
                Diagnostic::new(format!("the {noun} `{word}` cannot be read"))
                    .at(here(), format!("`{}`: {reason}", path.display()))
                    .help("make the file readable, or name another")
            }
            LoadError::NotReady(reason) => {
                Diagnostic::new(format!("the built-in {noun} `{word}` could not be got"))
                    .at(here(), "asked for here")
                    .note(reason.as_str())
                    .help("put that right, then run this again")
            }
        }
    }

    fn what_there_is(&self, kind: FileKind) -> String {
        // `test:bad` and its like are the project's own attackers: a person who mistyped a path means none of them.
        let mut builtins = self.environment.builtins(kind);
        builtins.retain(|name| !name.contains(':'));
        let path = "a path, relative to this file's folder";
        match builtins.as_slice() {
            [] => format!("`{kind}` is {path}"),
            [only] => format!("`{kind}` is {path}, or the built-in `{only}`"),
            all => format!(
                "`{kind}` is {path}, or one of the built-in {}",
                suggest::list(all.iter().map(String::as_str))
            ),
        }
    }
}

/// A format that is none, or one that is found without being said.
fn unknown_format(format: &Field<String>) -> Diagnostic {
    let diagnostic = Diagnostic::new(format!("there is no `format` {:?}", format.value));
    let lower = format.value.to_lowercase();
    if lower == "raw" || matches!(lower.as_str(), "bin" | "binary" | "flat") {
        let help = "a raw kernel is entered at its first byte";
        return diagnostic.at(format.span.clone(), "not a format").fix(
            help,
            format.span.clone(),
            "\"raw\"",
        );
    }
    diagnostic.at(format.span.clone(), "not a format").help(
        "leave `format` out: an `Image`, an ELF file, gzip and zstd are told by their content; the formats to say \
         are `format = \"raw\"`, for a kernel that is entered at its first byte, and `format = \"firmware\"`, for one that \
         lies in flash",
    )
}
