//! Replays the corpus of the fuzz target `chat_template`: every template renders or says why not, soon.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use stheno::text::{ChatTemplate, Message};

#[test]
fn every_template_ends() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/chat_template");
    let mut count = 0;
    for entry in fs::read_dir(&corpus).expect("fuzz/corpus/chat_template is part of the repository")
    {
        let path = entry.unwrap().path();
        let source = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let template = ChatTemplate::new(&source, [("bos_token".to_owned(), "<s>".to_owned())]);
        let messages = [
            Message::new("system", "Be brief."),
            Message::new("user", "Hé, <b>\"you\"</b>\n"),
            Message::new("assistant", ""),
        ];
        let start = Instant::now();
        if let Err(error) = template.render(&messages, true) {
            let error = error.to_string();
            assert!(
                error.starts_with("chat template"),
                "{}: {error}",
                path.display()
            );
            assert!(!error.contains('\n'), "{}: {error}", path.display());
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{}",
            path.display()
        );
        count += 1;
    }
    assert!(count >= 20, "{count} templates");
}
