"""What measures one architecture."""
