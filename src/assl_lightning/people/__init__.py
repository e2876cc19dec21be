"""What people are asked, what they answer, and by what tool; without torch and Lightning, nor the pool."""
