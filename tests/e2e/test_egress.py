"""What may leave of a conversation, decided in the real page: asked, redacted, written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybr_testing import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Watch
    from playwright.sync_api import Page


def test_asked_and_redacted(visit_without_webgpu: Callable[..., tuple[Page, Watch]]) -> None:
    """With "each time" the person is asked; kept here nothing is sent, redacted no address is; the log has the one receipt."""
    page, watch = visit_without_webgpu("/?mode=cloud")
    policy = page.get_by_test_id("egress-policy")
    until(policy.count, timeout=120, what="the policy control")
    policy.select_option("ask")
    replies = page.locator("[data-testid=message][data-role=assistant]")

    def ask(answer: str) -> str:
        before = replies.count()
        page.get_by_test_id("composer").fill("Write to ada@example.org: what is the capital of France?")
        page.get_by_test_id("send").click()
        dialog = page.get_by_test_id("egress-ask")
        until(dialog.is_visible, timeout=30, what="the question")
        assert "1 e-mail address" in dialog.inner_text()
        page.get_by_test_id(f"egress-{answer}").click()
        done = lambda: replies.count() > before and replies.nth(before).get_attribute("data-state") != "streaming"  # noqa: E731
        until(done, timeout=120, what="the end")
        return replies.nth(before).get_attribute("data-state") or ""

    chats = lambda: [request for request in watch.requests if "/v1/chat" in request]  # noqa: E731
    assert ask("keep") == "error"
    assert chats() == []
    with page.expect_request("**/v1/chat/completions") as sent:
        assert ask("redact") == "done"
    body = sent.value.post_data or ""
    assert "[EMAIL_1]" in body
    assert "ada@" not in body
    log = page.get_by_test_id("egress-log")
    until(lambda: log.get_attribute("data-count") == "1", timeout=10, what="the receipt")
    log.locator("summary").click()
    assert "taken out" in log.inner_text()
