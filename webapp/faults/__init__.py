"""The fault lab: a scripted engine and a scripted upstream that fail as WebLLM and servers do, on demand.

The tests run the orchestrator on them (tests/faults/lab). The real page can too, for tests alone: a server that was started with
`HYBR_TEST_FAULTS=1` serves this package as an archive, and a page opened with `?faults=<script>` takes it (`faults.page`). It is
in no page bundle.
"""
