//! A scripted user at a terminal, for tests.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use zeroize::Zeroizing;

use crate::questions::{PendingAnswer, Prompter, Unanswered};

/// Typed text, part of a chosen item, or a key.
pub(crate) type Answer = Result<&'static str, Unanswered>;

/// Gives these answers in order and records the prompts. `meanwhile`: what other clients do while the plan is shown.
pub(crate) struct Person {
    pub(crate) answers: RefCell<VecDeque<Answer>>,
    pub(crate) asked: RefCell<Vec<String>>,
    meanwhile: Box<dyn Fn()>,
}

impl Person {
    pub(crate) fn of(answers: &[Answer]) -> Rc<Person> {
        Person::while_others(answers, || ())
    }

    pub(crate) fn while_others(answers: &[Answer], meanwhile: impl Fn() + 'static) -> Rc<Person> {
        let answers = RefCell::new(answers.iter().cloned().collect());
        Rc::new(Person { answers, asked: RefCell::default(), meanwhile: Box::new(meanwhile) })
    }

    fn next(&self, prompt: &str) -> Answer {
        self.asked.borrow_mut().push(prompt.to_owned());
        self.answers.borrow_mut().pop_front().unwrap_or_else(|| panic!("nobody expects the question: {prompt}"))
    }
}

impl Prompter for Person {
    fn text<'a>(&'a self, prompt: &'a str, _: &'a str) -> PendingAnswer<'a, String> {
        Box::pin(async move { self.next(prompt).map(ToOwned::to_owned) })
    }

    fn secret<'a>(&'a self, prompt: &'a str) -> PendingAnswer<'a, Zeroizing<String>> {
        Box::pin(async move { self.next(prompt).map(|text| Zeroizing::new(text.to_owned())) })
    }

    fn choose<'a>(&'a self, prompt: &'a str, items: &'a [String]) -> PendingAnswer<'a, usize> {
        Box::pin(async move {
            let part = self.next(prompt)?;
            Ok(items.iter().position(|item| item.contains(part)).unwrap_or_else(|| panic!("{part}: {items:?}")))
        })
    }

    fn key<'a>(&'a self, prompt: &'a str, keys: &'a str) -> PendingAnswer<'a, char> {
        Box::pin(async move {
            if prompt == "Apply?" {
                (self.meanwhile)();
            }
            let key = self.next(prompt)?.chars().next().unwrap();
            assert!(keys.to_ascii_lowercase().contains(key), "{key} of {keys}");
            Ok(key)
        })
    }
}
