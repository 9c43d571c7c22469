//! A chat template out of a checkpoint nobody has looked at: it renders or says why not, and ends. Run it with
//! `-detect_leaks=0`: a namespace that holds itself is a cycle that the template engine never frees (src/text/jinja.rs).
#![no_main]

use libfuzzer_sys::fuzz_target;
use stheno::text::{ChatTemplate, Message};

fuzz_target!(|source: &str| {
    let special_tokens = [("bos_token".to_owned(), "<s>".to_owned())];
    let template = ChatTemplate::new(source, special_tokens);
    let messages = [
        Message::new("system", "Be brief."),
        Message::new("user", "Hé, <b>\"you\"</b>\n"),
        Message::new("assistant", ""),
    ];
    let _ = template.render(&messages, true);
});
