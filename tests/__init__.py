"""Everything that proves circumvent."""
