"""Studies, a folder each: `study.py` computes, `page.py` shows."""
